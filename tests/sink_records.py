"""Builders of the records sinks read: each states only what a test is about."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from schemas.events import EvolutionEvent, EvolutionType, Slot, SlotType, TemplateVersion
from schemas.ids import cluster_id, event_id, family_id, refinement_id, template_id
from schemas.prompts import (
    Assignment,
    CanonicalizedFrame,
    CanonicalizedPrompt,
    ClusterChange,
    ClusterChangeKind,
    Decision,
    EmbeddedFrame,
    ModeratedPrompt,
    Moderation,
    Prompt,
    PromptRejected,
    SlotStatistics,
)
from schemas.refinements import Refinement, SlotRefinement
from schemas.topics import EVOLUTION_EVENTS, PROMPTS_CANONICALIZED, PROMPTS_EMBEDDED, PROMPTS_REJECTED, REFINEMENTS
from streams.engine import frames
from streams.engine.ports import NullObserver, Record

TENANT = "acme"
NOON_MS = 1_700_000_000_000
A = cluster_id(TENANT, ["a"])
B = cluster_id(TENANT, ["b"])
C = cluster_id(TENANT, ["c"])
FAMILY = family_id(TENANT, A)
OTHER_FAMILY = family_id(TENANT, B)
ALLOWED = Moderation(allowed=True, scores={"hate": 0.01}, moderator="test", policy_version="1")
REFUSED = Moderation(allowed=False, scores={"hate": 0.99}, reason="hate", moderator="test", policy_version="1")
DECISION = Decision(gate="structure", algorithm="test", policy_version="1")


class SinkObserver(NullObserver):
    """Keeps what a sink tells."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.lags: dict[int, int] = {}
        self.failures: list[str] = []

    def rows_written(self, sink: str, table: str, rows: int) -> None:  # noqa: ARG002  the port's signature
        self.rows[table] += rows

    def landed(self, sink: str, seconds: float) -> None:  # noqa: ARG002
        self.latencies_s.append(seconds)

    def behind(self, sink: str, topic: str, partition: int, records: int) -> None:  # noqa: ARG002
        self.lags[partition] = records

    def failed(self, stage: str, kind: str) -> None:  # noqa: ARG002
        self.failures.append(kind)


def a_prompt(number: int, text: str = "", **changed: Any) -> Prompt:
    fields: dict[str, Any] = {
        "prompt_id": f"p{number}",
        "tenant": TENANT,
        "text": text or f"Translate {number} into French.",
        "created_at_ms": NOON_MS + number,
        "received_at_ms": NOON_MS + number,
        "partition": 0,
        "offset": number,
    }
    return Prompt(**{**fields, **changed})


def a_link(prompt: Prompt, cluster: str | None, sequence: int = 0, **changed: Any) -> CanonicalizedPrompt:
    """Return the link of a prompt's chain; its template is version 1.0.0 of its cluster."""
    assignment = Assignment(
        prompt=prompt,
        moderation=ALLOWED,
        sequence=sequence,
        cluster_id=cluster,
        similarity=0.9,
        confidence=0.8,
        reasoning="it holds the constants",
        decision=DECISION,
        duplicate=changed.pop("duplicate", False),
    )
    if cluster is not None:
        changed = {"template_id": template_id(cluster, "1.0.0"), "template_version": "1.0.0", **changed}
    return CanonicalizedPrompt(assignment=assignment, **changed)


def a_change(kind: ClusterChangeKind, cluster: str, *others: str) -> ClusterChange:
    return ClusterChange(
        kind=kind,
        tenant=TENANT,
        cluster_id=cluster,
        other_cluster_ids=others,
        prompt_id="p1",
        partition=0,
        offset=1,
        occurred_at_ms=NOON_MS,
    )


def a_version(cluster: str = A, version: str = "1.0.0", **changed: Any) -> TemplateVersion:
    fields: dict[str, Any] = {
        "template_id": template_id(cluster, version),
        "tenant": TENANT,
        "cluster_id": cluster,
        "family_id": FAMILY,
        "family_name": "translations",
        "name": "translate",
        "version": version,
        "template": "Translate {{what}} into French.",
        "slots": (Slot(name="what", position=0, type=SlotType.TEXT_SHORT, examples=("1", "2")),),
        "confidence": 0.9,
        "members": 3,
        "created_at_ms": NOON_MS,
    }
    return TemplateVersion(**{**fields, **changed})


def slot_statistics(version: TemplateVersion, values: int) -> SlotStatistics:
    """Return what is known of a version's slots after so many values."""
    slots = [slot.model_copy(update={"statistics": {"values": values}}) for slot in version.slots]
    return SlotStatistics(
        tenant=version.tenant,
        cluster_id=version.cluster_id,
        template_id=version.template_id,
        version=version.version,
        slots_json=f"[{','.join(slot.model_dump_json() for slot in slots)}]",
    )


def an_event(version: TemplateVersion, previous: str | None = None, **changed: Any) -> EvolutionEvent:
    kind = EvolutionType.UPDATED if previous else EvolutionType.CREATED
    fields: dict[str, Any] = {
        "event_id": event_id(version.cluster_id, kind, version.version, "p3"),
        "type": kind,
        "tenant": version.tenant,
        "cluster_id": version.cluster_id,
        "family_id": version.family_id,
        "template_id": version.template_id,
        "prompt_id": "p3",
        "previous_version": previous,
        "new_version": version.version,
        "reason": "three prompts share it",
        "detected_by": "test 1",
        "occurred_at_ms": NOON_MS + 3,
        "partition": 0,
        "offset": 3,
        "template": version,
    }
    return EvolutionEvent(**{**fields, **changed})


def a_rejection(number: int, **changed: Any) -> PromptRejected:
    fields: dict[str, Any] = {
        "prompt_id": f"p{number}",
        "tenant": TENANT,
        "text_sha256": "0" * 64,
        "text_chars": 12,
        "created_at_ms": NOON_MS,
        "received_at_ms": NOON_MS,
        "partition": 0,
        "offset": number,
        "moderation": REFUSED,
    }
    return PromptRejected(**{**fields, **changed})


def a_refinement(version: TemplateVersion, **changed: Any) -> Refinement:
    event = an_event(version)
    fields: dict[str, Any] = {
        "refinement_id": refinement_id(event.event_id, "gpt", "1"),
        "event_id": event.event_id,
        "tenant": version.tenant,
        "cluster_id": version.cluster_id,
        "template_id": version.template_id,
        "version": version.version,
        "family_id": version.family_id,
        "name": "French translation",
        "description": "Translates something into French.",
        "family_name": "Translation",
        "slots": {"what": SlotRefinement(name="source_text", reason="it is what is translated")},
        "model": "gpt",
        "prompt_version": "1",
        "occurred_at_ms": event.occurred_at_ms,
    }
    return Refinement(**{**fields, **changed})


def frame_record(
    offset: int,
    *prompts: CanonicalizedPrompt,
    changes: tuple[ClusterChange, ...] = (),
    statistics: tuple[SlotStatistics, ...] = (),
    partition: int = 0,
) -> Record:
    value = frames.encode(CanonicalizedFrame(prompts=prompts, changes=changes, statistics=statistics))
    return Record(PROMPTS_CANONICALIZED.name, partition, offset, NOON_MS, None, value)


def event_record(offset: int, event: EvolutionEvent, partition: int = 0) -> Record:
    value = event.model_dump_json().encode()
    return Record(EVOLUTION_EVENTS.name, partition, offset, NOON_MS, b"key", value)


def refinement_record(offset: int, refinement: Refinement, partition: int = 0) -> Record:
    value = refinement.model_dump_json().encode()
    return Record(REFINEMENTS.name, partition, offset, NOON_MS, b"key", value)


def rejection_record(offset: int, rejection: PromptRejected, partition: int = 0) -> Record:
    value = rejection.model_dump_json().encode()
    return Record(PROMPTS_REJECTED.name, partition, offset, NOON_MS, b"key", value)


def embedded_record(
    offset: int, *prompts: Prompt, vectors: list[list[float]], embedder: str = "toy", partition: int = 0
) -> Record:
    frame = EmbeddedFrame(
        embedder=embedder,
        dimension=len(vectors[0]),
        vectors=np.asarray(vectors, dtype="<f4").tobytes(),
        prompts=tuple(ModeratedPrompt(prompt=prompt, moderation=ALLOWED) for prompt in prompts),
    )
    return Record(PROMPTS_EMBEDDED.name, partition, offset, NOON_MS, None, frames.encode(frame))


def a_story() -> list[Record]:
    """Return records of all topics that touch every table: moves, a merge, repeats, stubs in both orders."""
    prompts = [a_prompt(number) for number in range(1, 9)]
    p1, p2, p3, p4, p5, p6, _, p8 = prompts
    founded = a_change(ClusterChangeKind.FOUNDED, A)
    merged = a_change(ClusterChangeKind.MERGED, A, B)
    second = a_version(version="1.1.0", template="Translate {{what}} into French, please.")
    return [
        frame_record(0, a_link(p1, None), a_link(p2, None), a_link(p3, None)),
        frame_record(
            1,
            a_link(p1, A, 1, slots={"what": "1"}),
            a_link(p2, A, 1, slots={"what": "2"}),
            a_link(p3, A, 1, slots={"what": "3"}),
            changes=(founded,),
        ),
        # A refinement may be read before the event it is about.
        refinement_record(0, a_refinement(a_version())),
        event_record(0, an_event(a_version())),
        frame_record(2, a_link(p4, B), a_link(p5, C, template_id=None, template_version=None)),
        frame_record(3, a_link(a_prompt(1, offset=100), None, duplicate=True), changes=(merged,)),
        rejection_record(0, a_rejection(6)),
        rejection_record(1, a_rejection(7)),
        rejection_record(2, a_rejection(7, offset=107)),
        frame_record(4, a_link(p6.model_copy(update={"offset": 106}), A), a_link(p8, C, 0)),
        event_record(1, an_event(second, previous="1.0.0")),
        refinement_record(1, a_refinement(second)),
        refinement_record(2, a_refinement(second, name="Into French", model="other", family_id=None)),
        frame_record(
            5,
            a_link(p1, C, 2),
            changes=(a_change(ClusterChangeKind.RETIRED, C),),
            statistics=(slot_statistics(second, 32), slot_statistics(second, 64)),
        ),
        rejection_record(3, a_rejection(8, offset=108)),
        event_record(2, an_event(a_version(B, "1.0.0", family_id=None))),
        # The family is renamed, then the cluster moves to another one.
        event_record(3, an_event(a_version(version="1.2.0", family_name="languages"), previous="1.1.0")),
        event_record(4, an_event(a_version(version="1.3.0", family_id=OTHER_FAMILY), previous="1.2.0")),
    ]
