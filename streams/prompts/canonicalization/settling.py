"""Learn the template of a young cluster until it settles, and decide whether it is a first or a next version.

Pure. A template is learnt again when its cluster grew by half, so that learning costs a constant share of the work
whatever the size; a member that does not parse brings the next lesson forward.
"""

from __future__ import annotations

from schemas.events import EvolutionEvent, EvolutionType
from schemas.prompts import Assignment
from streams.prompts.canonicalization import versions
from streams.prompts.canonicalization.announcements import announce
from streams.prompts.canonicalization.cluster import CURRENT, ClusterState, Sample, shortened
from streams.prompts.canonicalization.evolution import is_overdue, gave_way
from streams.prompts.canonicalization.families import RELATED_MIN
from streams.prompts.canonicalization.slots import name_slots
from streams.prompts.canonicalization.template import Template, learn
from streams.prompts.canonicalization.tenant import Tenant

MEMBERS_MIN = 12  # a constant that twelve different prompts share by accident is rare
STEADY_MIN = 6  # members in a row that changed nothing
WAITING_MEMBERS_MAX = 24  # by then it no longer matters whether a new cluster follows an elder one


def learn_on(tenant: Tenant, state: ClusterState, assignment: Assignment, *, live: bool) -> list[EvolutionEvent]:
    """Take a member into a cluster that is not announced yet."""
    prompt = assignment.prompt
    values = state.template.parse(prompt.text) if state.template else None
    text = shortened(prompt.text, state.template, values)
    state.keep(Sample(prompt.prompt_id, text, round(assignment.similarity * 1e6), CURRENT), recent=live)
    state.steady = state.steady + 1 if values is not None else 0
    if state.members >= state.learn_at or (values is None and state.members >= MEMBERS_MIN):
        state.learn_at = max(state.members + 1, state.members * 3 // 2)
        relearn(state)
    if state.members < MEMBERS_MIN or state.steady < STEADY_MIN:
        return []
    relearn(state)  # from all there is; settled only if that changes nothing
    if state.steady < STEADY_MIN or _must_wait(tenant, state):
        return []
    return [_settle(tenant, state)]


def relearn(state: ClusterState) -> None:
    """Learn a cluster's template from its kept texts."""
    learnt = learn([sample.text for sample in state.samples()])
    if state.template is None or learnt.constants != state.template.constants:
        state.template, state.steady = name_slots(learnt), 0


def _elder(tenant: Tenant, state: ClusterState) -> ClusterState | None:
    """Return the cluster this one may be the next version of: like it, and alive when it came up."""
    assert state.template is not None
    for cluster_id, resemblance in tenant.resemblances.nearest(state.template, without=state.cluster_id):
        elder = tenant.clusters[cluster_id]
        if resemblance < RELATED_MIN:
            return None
        older = elder.born_at < state.born_at and elder.succeeded_by is None
        if older and gave_way(elder.arrivals, state.born_at, state.members) and not _reads(state.template, elder):
            return elder
    return None


def _reads(template: Template, elder: ClusterState) -> bool:
    """Tell whether a template reads an elder cluster's prompts too: then it is the same one, not its next version."""
    texts = [sample.text for sample in elder.samples()]
    return 2 * sum(template.parse(text) is not None for text in texts) > len(texts)


def _must_wait(tenant: Tenant, state: ClusterState) -> bool:
    """Tell whether it is still open if a cluster follows an elder one."""
    if state.members >= WAITING_MEMBERS_MAX:
        return False
    elder = _elder(tenant, state)
    return elder is not None and not is_overdue(elder.arrivals, tenant.clock)


def _settle(tenant: Tenant, state: ClusterState) -> EvolutionEvent:
    assert state.template is not None
    elder = _elder(tenant, state)
    if elder is None or elder.version is None or not is_overdue(elder.arrivals, tenant.clock):
        state.begin(state.template, versions.FIRST)
        tenant.resemblances.put(state.cluster_id, state.template)
        family = tenant.place_in_family(state, None)
        reason = (
            f"{state.members} prompts were filled from one template, and the last {state.steady} changed nothing in it"
        )
        return announce(
            tenant.name, state, EvolutionType.CREATED, reason, detected_by="settling", family=family, versioned=True
        )
    before = elder.version
    kind = versions.kind_of_change(before.template, state.template)
    state.begin(state.template, versions.following(before.number, kind))
    tenant.resemblances.put(state.cluster_id, state.template)
    elder.succeeded_by = state.cluster_id
    tenant.touch(elder)
    words = versions.in_words(before.template, state.template, kind)
    return announce(
        tenant.name,
        state,
        kind,
        f"prompts like these came from another cluster, which fell silent when this one came up: {words}",
        detected_by="succession",
        family=tenant.place_in_family(state, elder),
        previous=before.number,
        diff=versions.unified_diff(before.template, state.template),
        versioned=True,
        details={"succeeds_cluster_id": elder.cluster_id},
    )
