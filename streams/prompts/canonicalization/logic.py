"""Turn clusters of prompts into templates with slots and versions, and say when a template evolves.

Pure: no clock, no randomness, no input or output, no Faust. One `Canonicalization` is one tenant; it is fed what
clustering decided, step by step, and can be rebuilt from its rows at any step to go on in exactly the same way.

Intuition: lay a cluster's prompts over each other like tracing paper. Where all of them show the same ink is the
template, where they blur are its slots. The first sheets show too much (whatever they happen to share), so a
template is only announced when new sheets stop changing the picture. From then on each prompt is *read* with it,
and the prompts that cannot be read are the interesting ones: alone they are noise; when several agree on another
picture, the caller has changed the template.

The life of a cluster
  1. Learning. The template is learnt again at geometrically growing member counts (`alignment.py`, `template.py`).
  2. Settling (`settling.py`). After `MEMBERS_MIN` members, the last `STEADY_MIN` of them parsed without a change:
     CREATED, version 1.0.0. If the cluster resembles an elder one that fell silent when it came up, it is that one's
     next version instead; while that is still open, the announcement waits (`WAITING_MEMBERS_MAX`).
  3. Watching (`watching.py`). Each member is read with the current version, else with earlier ones (stragglers),
     else it is *strange*. When enough strange members agree, or the newest members suddenly share words in a slot, a
     new version begins (`evolution.py`): UPDATED, SLOT_ADDED or SLOT_REMOVED. When the values of a slot move to
     another kind, or the prompts away from the cluster's centre, DRIFT_DETECTED (`drift.py`).
  4. What clustering does to a cluster (merged, split, retired, revived) becomes an event if it was ever announced.

Every announcement is an event with ids that follow from the cluster, the version and the newest member, so a
replay gives the same events. Ages are counted in the tenant's prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.events import EvolutionEvent, EvolutionType
from schemas.prompts import (
    Assignment,
    CanonicalizedPrompt,
    ClusterChange,
    ClusterChangeKind,
    ClusteredStep,
    SlotStatistics,
)
from streams.prompts.canonicalization import rows
from streams.prompts.canonicalization.announcements import announce, slot_statistics
from streams.prompts.canonicalization.cluster import ClusterState, Read
from streams.prompts.canonicalization.settling import learn_on, relearn
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.tenant import Tenant
from streams.prompts.canonicalization.watching import refine, tighten, watch

STATISTICS_FIRST = 32  # members of a version after which its statistics are told anew; a power of two
STATISTICS_AFTER = 4  # members later than that: on other prompts than the looks at the newest ones
ARRIVALS_KEPT = 16  # what the rate of a cluster is taken from

EVENT_OF_CHANGE = {
    ClusterChangeKind.MERGED: EvolutionType.CLUSTER_MERGED,
    ClusterChangeKind.SPLIT: EvolutionType.CLUSTER_SPLIT,
    ClusterChangeKind.RETIRED: EvolutionType.RETIRED,
    ClusterChangeKind.REVIVED: EvolutionType.REVIVED,
    ClusterChangeKind.DISSOLVED: EvolutionType.RETIRED,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """`version` stands in every event: under which policy it was found. A change takes effect at a restart."""

    version: str = "1"


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as the state of now reads it, with the template it was read with; `raw`: with none."""

    template: str
    slots: dict[str, str]
    version: str | None
    family_id: str | None
    raw: bool


@dataclass(slots=True)  # one a prompt: frozen, it would take three times as long to make
class Outcome:
    """A prompt as its template reads it (None for a step that placed none), and the events it set off."""

    prompt: CanonicalizedPrompt | None
    events: list[EvolutionEvent] = field(default_factory=list)
    withdrawn: tuple[str, ...] = ()  # clusters whose template stands no longer
    statistics: SlotStatistics | None = None  # of a version that goes on, now and then


class Canonicalization:
    """One tenant's templates."""

    def __init__(self, tenant: str, policy: Policy, stored: Iterable[tuple[str, str, bytes]] = ()) -> None:
        self.tenant = Tenant(tenant, policy.version, *rows.load(tenant, stored))

    def apply(self, step: ClusteredStep) -> Outcome:
        """Take one step of clustering; return the prompt as its template reads it, and what that showed."""
        if step.assignment is not None:
            return self._assigned(step.assignment)
        return self._changed(step.change) if step.change is not None else Outcome(None)

    @property
    def cost(self) -> int:
        """Return the characters of all kept texts."""
        return sum(state.chars() for state in self.tenant.clusters.values())

    def read(self, cluster_id: str, text: str) -> Reading:
        """Read a text with what is known of a cluster now: its latest lesson, announced or not, then its versions."""
        state = self.tenant.clusters.get(cluster_id)
        number = state.version.number if state is not None and state.version else None
        for template, version in state.readers() if state is not None else ():
            values = template.parse(text)
            if values is not None:
                slots = dict(zip(template.names, values, strict=True))
                return Reading(template.show(), slots, version, state.family_id if state else None, raw=False)
        return Reading(text, {}, number, state.family_id if state else None, raw=True)

    def finish_learning(self) -> None:
        """Learn once more, from all there is, what is not announced yet or not read by all: the stream has ended."""
        for cluster_id in sorted(self.tenant.clusters):
            state = self.tenant.clusters[cluster_id]
            if not state.versions and state.pool:
                relearn(state)
            elif state.suspects():
                refine(state)
            elif state.loosened:
                state.template = tighten(state) or state.template
            if state.template is not None and (state.version is None or state.template != state.version.template):
                state.template = name_slots(state.template, [sample.text for sample in state.samples()])

    def dirty(self) -> list[tuple[str, str, bytes | None]]:
        """Return the rows written since the last call as (table, key, row); None deletes."""
        return self.tenant.written()

    def _assigned(self, assignment: Assignment) -> Outcome:
        tenant = self.tenant
        if assignment.duplicate:
            return Outcome(canonicalized(assignment), [])
        if assignment.sequence == 0:
            tenant.tick()
        left = tenant.clusters.get(assignment.previous_cluster_id or "")
        if left is not None and left.cluster_id != assignment.cluster_id:
            left.forget(assignment.prompt.prompt_id)
            tenant.touch(left)
        if assignment.cluster_id is None:
            return Outcome(canonicalized(assignment), [])
        return self._join(tenant.state_of(assignment.cluster_id), assignment)

    def _join(self, state: ClusterState, assignment: Assignment) -> Outcome:
        prompt, live = assignment.prompt, assignment.sequence == 0
        state.members += 1
        # A prompt that moved here may be older than what is here already.
        if live or (prompt.received_at_ms, prompt.offset) > (state.received_at_ms, state.offset):
            state.newest_id, state.partition, state.offset = prompt.prompt_id, prompt.partition, prompt.offset
            state.received_at_ms, state.occurred_at_ms = prompt.received_at_ms, prompt.created_at_ms
        if live:
            state.arrivals.append(self.tenant.clock)
            del state.arrivals[:-ARRIVALS_KEPT]
        if not state.versions:
            events = learn_on(self.tenant, state, assignment, live=live)
            read = state.read(prompt.text) if state.versions else None
        else:
            read = state.read(prompt.text)
            events = watch(self.tenant, state, assignment, read, live=live)
            if events:
                read = state.read(prompt.text)
        statistics = None
        if live and not events and _statistics_are_due(state):
            statistics = slot_statistics(self.tenant.name, state)
        return Outcome(canonicalized(assignment, state.family_id, read), events, (), statistics)

    def _changed(self, change: ClusterChange) -> Outcome:
        tenant, kind = self.tenant, change.kind
        if kind is ClusterChangeKind.FOUNDED:
            tenant.state_of(change.cluster_id)
            return Outcome(None)
        state = tenant.clusters.get(change.cluster_id)
        if state is None:
            return Outcome(None)
        tenant.touch(state)
        events = [_reported(tenant, state, change)] if state.versions else []
        dropped: list[ClusterState] = []
        if kind is ClusterChangeKind.MERGED:
            dropped = [tenant.clusters[other] for other in change.other_cluster_ids if other in tenant.clusters]
            for other in dropped:
                state.absorb(other)
                events += tenant.drop(other, heir=state)
        elif kind is ClusterChangeKind.DISSOLVED:
            dropped = [state]
            events += tenant.drop(state, heir=None)
        elif kind is ClusterChangeKind.SPLIT:
            for part in change.other_cluster_ids:
                tenant.state_of(part).split_from = state.cluster_id
        return Outcome(None, events, tuple(other.cluster_id for other in dropped if other.versions))


def _statistics_are_due(state: ClusterState) -> bool:
    """Tell whether a version's members have doubled: a share of the work that shrinks, whatever the size."""
    doubled = state.since_version - STATISTICS_AFTER
    return bool(state.versions) and doubled >= STATISTICS_FIRST and doubled & (doubled - 1) == 0


def _reported(tenant: Tenant, state: ClusterState, change: ClusterChange) -> EvolutionEvent:
    """Return the event of a change that clustering made to an announced cluster."""
    return announce(
        tenant.voice,
        state,
        EVENT_OF_CHANGE[change.kind],
        change.reason or f"clustering reported it as {change.kind.value.lower()}",
        detected_by="clustering",
        others=change.other_cluster_ids,
        details={"other_cluster_ids": list(change.other_cluster_ids)} if change.other_cluster_ids else {},
    )


def canonicalized(
    assignment: Assignment, family_id: str | None = None, read: Read | None = None
) -> CanonicalizedPrompt:
    """Return a prompt as an announced version reads it, if there is one."""
    slots: dict[str, str] = {}
    if read is not None and read.values is not None:
        slots = dict(zip(read.version.template.names, read.values, strict=True))
    return CanonicalizedPrompt.trusted(
        assignment=assignment,
        family_id=family_id,
        template_id=read.version.template_id if read is not None else None,
        template_version=read.version.number if read is not None else None,
        slots=slots,
        raw=read is not None and read.values is None,
    )
