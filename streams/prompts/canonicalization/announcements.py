"""Build the records by which canonicalization tells the world: template versions and evolution events.

Pure. Ids follow from the cluster, the version and the cluster's newest member, so a replay builds the same records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import ids
from schemas.events import EvolutionEvent, EvolutionType, Slot, TemplateVersion
from schemas.prompts import SlotStatistics
from streams.prompts.canonicalization.cluster import ClusterState
from streams.prompts.canonicalization.families import Family, description_of, name_of
from streams.prompts.canonicalization.slots import describe

ALGORITHM = "canonicalization/1"


@dataclass(frozen=True, slots=True)
class Voice:
    """In whose name is announced, and under which policy."""

    tenant: str
    policy_version: str


def template_version(tenant: str, state: ClusterState, family: Family | None) -> TemplateVersion:
    """Return the record of a cluster's newest version."""
    version = state.versions[-1]
    samples = state.samples()
    # Half of the doubt goes with each doubling of what was seen; a text that does not parse is doubt as well.
    share = sum(sample.values(version.template) is not None for sample in samples) / max(1, len(samples))
    return TemplateVersion(
        template_id=version.template_id,
        tenant=tenant,
        cluster_id=state.cluster_id,
        family_id=state.family_id,
        family_name=family.name if family else "",
        name=name_of(version.template),
        description=description_of(version.template),
        version=version.number,
        template=version.template.show(),
        slots=_slots(state),
        confidence=round(share * (1 - 1 / (1 + len({sample.text for sample in samples}))), 4),
        members=state.members,
        created_at_ms=state.occurred_at_ms,
    )


def slot_statistics(tenant: str, state: ClusterState) -> SlotStatistics:
    """Return what is known by now of the slots of a cluster's newest version."""
    version = state.versions[-1]
    return SlotStatistics(
        tenant=tenant,
        cluster_id=state.cluster_id,
        template_id=version.template_id,
        version=version.number,
        slots_json=orjson.dumps([slot.model_dump(mode="json") for slot in _slots(state)]).decode(),
    )


def _slots(state: ClusterState) -> tuple[Slot, ...]:
    template = state.versions[-1].template
    rows = [values for sample in state.samples() if (values := sample.values(template)) is not None]
    columns = list(zip(*rows, strict=True)) or [()] * template.slots
    return describe(template, columns, state.sketches)


def announce(
    voice: Voice,
    state: ClusterState,
    kind: EvolutionType,
    reason: str,
    *,
    detected_by: str,
    family: Family | None = None,
    previous: str | None = None,
    diff: str = "",
    versioned: bool = False,
    details: dict[str, Any] | None = None,
    subject: str | None = None,
    others: Sequence[str] = (),
) -> EvolutionEvent:
    """Return an event about a cluster.

    Args:
        versioned: the event made the cluster's newest version; the event carries it.
        subject: what the event is about if not the cluster itself (a family).
        others: clusters or families that met the subject there: with one prompt it may meet several, one by one.
    """
    newest = state.versions[-1] if state.versions else None
    number = newest.number if newest else None
    return EvolutionEvent(
        event_id=ids.event_id(
            subject or state.cluster_id, kind.value, number if versioned else None, state.newest_id, others
        ),
        type=kind,
        tenant=voice.tenant,
        cluster_id=state.cluster_id,
        family_id=state.family_id,
        template_id=newest.template_id if newest else None,
        prompt_id=state.newest_id,
        previous_version=previous if versioned else number,
        new_version=number if versioned else None,
        reason=reason,
        diff=diff,
        detected_by=f"{ALGORITHM} policy/{voice.policy_version} {detected_by}",
        occurred_at_ms=state.occurred_at_ms,
        partition=state.partition,
        offset=state.offset,
        template=template_version(voice.tenant, state, family) if versioned else None,
        details=details or {},
    )
