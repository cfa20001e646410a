"""Learn the template of a young cluster until it settles, and decide whether it is a first or a next version.

Pure. A template is learnt again when its cluster has doubled, so that learning costs a constant share of the work
whatever the size; a member that does not parse brings the next lesson forward.
"""

from __future__ import annotations

from schemas.events import EvolutionEvent, EvolutionType
from schemas.prompts import Assignment
from streams.prompts.canonicalization import versions
from streams.prompts.canonicalization.announcements import announce
from streams.prompts.canonicalization.cluster import CURRENT, ClusterState, Sample, shortened
from streams.prompts.canonicalization.evolution import gave_way, is_overdue, is_same
from streams.prompts.canonicalization.families import RELATED_MIN, SIBLING_MIN
from streams.prompts.canonicalization.learning import learn
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tenant import Tenant

MEMBERS_MIN = 12  # a constant that twelve different prompts share by accident is rare
STEADY_MIN = 6  # members in a row that changed nothing
WAITING_MEMBERS_MAX = 24  # by then it no longer matters whether a new cluster follows an elder one


def learn_on(tenant: Tenant, state: ClusterState, assignment: Assignment, *, live: bool) -> list[EvolutionEvent]:
    """Take a member into a cluster that is not announced yet."""
    prompt = assignment.prompt
    values = state.template.parse(prompt.text) if state.template else None
    text = shortened(prompt.text, state.template, values)
    meaning = state.meaning_of(assignment)
    state.keep(Sample(prompt.prompt_id, text, meaning, CURRENT, tenant.clock), recent=live)
    state.steady = state.steady + 1 if values is not None else 0
    # Members that clustering moves here come many at once; they are learnt from with the next prompt.
    due = live and (state.members >= state.learn_at or (values is None and state.members >= MEMBERS_MIN))
    if due:
        state.learn_at = 2 * state.members
        relearn(state)
    if state.template is None or state.members < MEMBERS_MIN or state.steady < STEADY_MIN:
        return []
    elder = _elder(tenant, state, state.template)
    overdue = elder is not None and is_overdue(elder.arrivals, tenant.clock)
    if elder is not None and not overdue and state.members < WAITING_MEMBERS_MAX:
        return []  # it is still open whether this one follows that one
    # From all there is; settled only if that changes nothing.
    template = state.template if due else relearn(state)
    if state.steady < STEADY_MIN:
        return []
    template = name_slots(template, [sample.text for sample in state.samples()])
    state.begin(template, versions.FIRST)
    tenant.resemblances.put(state.cluster_id, template)
    if elder is None or not overdue:
        return _created(tenant, state)
    return [_succeeded(tenant, state, elder)]


def relearn(state: ClusterState) -> Template:
    """Learn a cluster's template from its kept texts."""
    learnt = learn([sample.text for sample in state.samples()], state.template)
    if state.template is None or learnt.constants != state.template.constants:
        state.template, state.steady = name_slots(learnt), 0
    return state.template


def _elder(tenant: Tenant, state: ClusterState, template: Template) -> ClusterState | None:
    """Return the cluster this one may be the next version of: like it, and alive when it came up."""
    for cluster_id, resemblance in tenant.resemblances.nearest(template, without=state.cluster_id):
        elder = tenant.clusters[cluster_id]
        if resemblance < RELATED_MIN:
            return None
        older = elder.born_at < state.born_at and elder.succeeded_by is None
        follows = older and gave_way(elder.arrivals, state.born_at, state.members)
        if (
            follows
            and not _reads(template, elder)
            and not any(is_same(known.template, template) for known in elder.versions)
        ):
            return elder
    return None


def _reads(template: Template, other: ClusterState) -> bool:
    """Tell whether a template reads another cluster's prompts too: then it is no other version for it."""
    texts = [sample.text for sample in other.samples()]
    return 2 * sum(template.parse(text) is not None for text in texts) > len(texts)


def _created(tenant: Tenant, state: ClusterState) -> list[EvolutionEvent]:
    whole = tenant.clusters.get(state.split_from or "")
    parent = whole if whole is not None and whole.versions else None
    template = state.versions[-1].template
    alike = parent is not None and tenant.resemblances.between(template, parent.cluster_id) >= SIBLING_MIN
    family = tenant.place_in_family(state, parent if alike else None)
    reason = f"{state.members} prompts were filled from one template, and the last {state.steady} changed nothing in it"
    events = [
        announce(
            tenant.voice, state, EvolutionType.CREATED, reason, detected_by="settling", family=family, versioned=True
        )
    ]
    if parent is not None and parent.family_id != state.family_id:
        events.append(
            announce(
                tenant.voice,
                state,
                EvolutionType.FAMILY_SPLIT,
                "a part that left its cluster does not resemble what stayed",
                detected_by="resemblance",
                details={"family_id": parent.family_id, "new_family_id": state.family_id},
                subject=parent.family_id,
            )
        )
    return events


def _succeeded(tenant: Tenant, state: ClusterState, elder: ClusterState) -> EvolutionEvent:
    """Announce a cluster as the next version of an elder one."""
    before, after = elder.versions[-1], state.versions[-1]
    kind = versions.kind_of_change(before.template, after.template)
    state.renumber(versions.following(before.number, before.template, after.template))
    elder.succeeded_by = state.cluster_id
    tenant.touch(elder)
    words = versions.in_words(before.template, after.template, kind)
    return announce(
        tenant.voice,
        state,
        kind,
        f"prompts like these came from another cluster, which fell silent when this one came up: {words}",
        detected_by="succession",
        family=tenant.place_in_family(state, elder),
        previous=before.number,
        diff=versions.unified_diff(before.template, after.template),
        versioned=True,
        details={"succeeds_cluster_id": elder.cluster_id},
    )
