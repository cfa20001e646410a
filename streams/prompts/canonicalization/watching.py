"""Watch an announced template: read each new member, and notice when the members stop being what it says.

Pure. Looks at the newest members are spaced geometrically (`LOOK_EVERY`, `LOOK_SHARE`), so that a cluster of any
size costs a constant share of the work, and the chance of a false alarm grows with its logarithm only.
"""

from __future__ import annotations

from typing import Any

from schemas.events import EvolutionEvent, EvolutionType
from schemas.prompts import Assignment
from streams.prompts.canonicalization import versions
from streams.prompts.canonicalization.announcements import announce
from streams.prompts.canonicalization.cluster import (
    CURRENT,
    EARLIER,
    RECENT_MAX,
    STRANGE,
    ClusterState,
    Read,
    Sample,
    shortened,
)
from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.drift import BASE_VALUES_MIN, moved
from streams.prompts.canonicalization.evolution import (
    AGAIN_MIN,
    AGREEING_MIN,
    adds_wording,
    compare,
    is_worded_again,
    proposal,
    sharing_new_words,
    went_back,
)
from streams.prompts.canonicalization.learning import learn
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tenant import Tenant

LOOK_EVERY = 8  # members between two looks at the newest ones, while a version is young
LOOK_SHARE = 16  # later, one look each time this part of the version's members came anew
STRANGE_EVERY = 4  # strange members between two attempts to make sense of them
DOMINANT_SHARE = 0.6  # of the newest members that are strange when the caller has moved to another wording
SIDE_BY_SIDE_MIN = 12  # strange members beside others that are not, from which they are no passing phase
KEPT_APART_MIN = 12  # members that agree that a slot is none, once those that differed have left
WORDS_MIN = 5  # fixed words of a template that was learnt too narrowly, once it is learnt better
KEPT_WORDS_MIN = 0.7  # of a template's fixed words that a refinement of it keeps


def watch(
    tenant: Tenant, state: ClusterState, assignment: Assignment, read: Read, *, live: bool
) -> list[EvolutionEvent]:
    """Take a member into an announced cluster; `read` is how its versions read it."""
    prompt = assignment.prompt
    if read.reading == CURRENT and read.values is not None:
        state.count(read.values)
    text = shortened(prompt.text, read.version.template, read.values)
    sample = Sample(prompt.prompt_id, text, state.meaning_of(assignment), read.reading, tenant.clock)
    if text is prompt.text:
        sample.remember(read.version.template, read.values)
    state.keep(sample, recent=live)
    state.since_version += 1
    if read.reading == STRANGE:
        state.strange += 1
        if state.strange % STRANGE_EVERY == 0:
            return _about_strangers(tenant, state)
        if state.strange < STRANGE_EVERY:
            refine(state)
        return []
    if read.reading == EARLIER:
        state.earlier += 1
        return _about_stragglers(tenant, state) if live else []
    if live and state.since_version >= state.look_at:
        state.look_at = state.since_version + max(LOOK_EVERY, state.since_version // LOOK_SHARE)
        return _about_newest(tenant, state)
    return []


def _about_strangers(tenant: Tenant, state: ClusterState) -> list[EvolutionEvent]:
    """Make sense of the members that no version parses: a new version, or a template learnt too narrowly."""
    current, texts = state.versions[-1].template, [sample.text for sample in state.suspects()]
    earlier = [sample.text for sample in state.bases()]
    newest = list(state.recents())[-AGREEING_MIN:]
    dominant = sum(sample.reading == STRANGE for sample in newest) >= DOMINANT_SHARE * len(newest)
    # Older strange members may be strange in another way than the newest ones.
    for some in (texts[-AGREEING_MIN:], texts) if dominant and len(texts) > AGREEING_MIN else (texts,):
        proposed = proposal(current, earlier, some)
        if proposed is None or not (difference := compare(current, proposed)).is_change:
            continue
        if is_worded_again(state.templates(), state.varied, proposed) and (told := _let_vary(tenant, state)):
            return told
        if dominant:
            return _new_version(tenant, state, proposed, some, "wording", "agree on another wording")
        if len(texts) < SIDE_BY_SIDE_MIN:
            return []
        if difference.is_section:
            finding = "agree on another wording, beside the known one"
            return _new_version(tenant, state, proposed, some, "wording", finding)
    refine(state)
    draft = state.template
    if draft is None or draft.constants == current.constants or len(texts) < AGREEING_MIN:
        return []
    if sum(draft.parse(text) is not None for text in texts) < AGREEING_MIN:
        return []
    return _new_version(
        tenant, state, draft, [s.text for s in state.samples()], "refinement", "show that a part varies"
    )


def _about_stragglers(tenant: Tenant, state: ClusterState) -> list[EvolutionEvent]:
    """See whether members of an earlier version are no stragglers any more: the caller went back to it."""
    newest = list(state.recents())
    run = next((at for at, sample in enumerate(reversed(newest)) if sample.reading != EARLIER), len(newest))
    if run < AGREEING_MIN or not went_back(state.earlier - run, state.since_version - run, run):
        return []
    texts = [sample.text for sample in newest[-run:]]
    for version in reversed(state.versions[:-1]):
        if all(version.template.parse(text) is not None for text in texts):
            if is_worded_again(state.templates(), state.varied, version.template) and (
                told := _let_vary(tenant, state)
            ):
                return told
            finding = f"went back to the wording of version {version.number}"
            details = {"restores_version": version.number}
            return _new_version(tenant, state, version.template, texts, "rollback", finding, details)
    return []


def _let_vary(tenant: Tenant, state: ClusterState) -> list[EvolutionEvent]:
    """Make the place that one version after the other worded anew a slot, or part of the slot beside it."""
    texts = [sample.text for sample in state.samples()]
    learnt = learn(texts)
    opened = learnt.slots > 0 and learnt.constant_chars < state.versions[-1].template.constant_chars
    if not opened or any(learnt.parse(text) is None for text in texts):
        return []
    wording = state.versions[-1].template
    finding = "show that what was worded anew again and again is a value"
    told = _new_version(tenant, state, learnt, texts, "refinement", finding, instead_of=AGAIN_MIN)
    state.varied = wording
    return told


def refine(state: ClusterState) -> None:
    """Learn the draft again with the strange members, if that leaves most of the template as it is."""
    current = state.versions[-1].template
    learnt = learn([sample.text for sample in state.samples()])
    difference = compare(current, learnt)
    if difference.gained or not learnt.slots:
        return
    # Two kinds of members that go on side by side differ in what was taken for constant, however much that is.
    side_by_side = len(state.suspects()) >= SIDE_BY_SIDE_MIN and difference.words >= WORDS_MIN
    if difference.kept >= KEPT_WORDS_MIN or side_by_side:
        state.template = name_slots(learnt)


def tighten(state: ClusterState) -> Template | None:
    """Return the newest version without the slots whose values are all the same, or share more than was thought."""
    current = state.versions[-1].template
    texts = [sample.text for sample in state.samples() if sample.reading == CURRENT]
    if len(texts) < KEPT_APART_MIN:
        return None
    # What those that left had in common with the rest may be cut at the wrong places.
    for known in (None, current) if state.loosened else (current,):
        learnt = learn(texts, known)
        tighter = learnt.slots < current.slots or learnt.constant_chars > current.constant_chars
        if tighter and all(learnt.parse(text) is not None for text in texts):
            state.loosened = False
            return learnt
    state.loosened = False
    return None


def _about_newest(tenant: Tenant, state: ClusterState) -> list[EvolutionEvent]:
    """Look whether the newest members, though they parse, have something new in common, or other values."""
    current = state.versions[-1].template
    if state.loosened or any(sketch.seen >= KEPT_APART_MIN and sketch.distinct() == 1 for sketch in state.sketches):
        tightened = tighten(state)
        if tightened is not None and not is_worded_again(state.templates(), state.varied, tightened):
            texts = [sample.text for sample in state.samples()]
            return _new_version(tenant, state, tightened, texts, "refinement", "show that a part never varied")
    newest = [sample for sample in state.recents() if sample.reading == CURRENT]
    base = list(state.bases())
    if len(newest) < AGREEING_MIN or len(base) < AGREEING_MIN:
        return []
    before = [values for sample in base if (values := sample.values(current)) is not None]
    read = [(sample.text, values) for sample in newest if (values := sample.values(current)) is not None]
    columns = Columns(list(zip(*before, *(values for _, values in read), strict=True)), len(before))
    texts = [text for text, _ in read]
    for agreeing in sharing_new_words(columns, texts, len(base), state.sketches):
        proposed = proposal(current, [sample.text for sample in base], agreeing)
        if proposed is None or not compare(current, proposed).wording or not adds_wording(current, proposed):
            continue
        if is_worded_again(state.templates(), state.varied, proposed):
            continue
        # That some of the newest hold one value of a slot is a burst of it; only all of them have fixed it.
        if agreeing == [sample.text for sample in newest[-len(agreeing) :]] or proposed.slots >= current.slots:
            return _new_version(tenant, state, proposed, agreeing, "wording", "share words that earlier ones lack")
    if len(newest) < RECENT_MAX or len(base) < BASE_VALUES_MIN or len(before) + len(read) < len(base) + len(newest):
        return []
    found = moved(state, base, newest, columns)
    if found is None:
        return []
    event = announce(
        tenant.voice, state, EvolutionType.DRIFT_DETECTED, found.reason, detected_by="drift", details=found.details
    )
    state.begin_anew()
    return [event]


def _new_version(
    tenant: Tenant,
    state: ClusterState,
    proposed: Template,
    texts: list[str],
    detector: str,
    finding: str,
    details: dict[str, Any] | None = None,
    instead_of: int = 1,
) -> list[EvolutionEvent]:
    before = state.versions[-1]
    template = name_slots(proposed, texts)
    kind = versions.kind_of_change(before.template, template)
    if detector != "refinement":
        state.keep_only(set(texts))
    state.begin(
        template,
        versions.following(before.number, before.template, template),
        instead_of=instead_of if detector == "refinement" else 0,
    )
    tenant.touch(state)
    tenant.resemblances.put(state.cluster_id, template)
    event = announce(
        tenant.voice,
        state,
        kind,
        f"{len(texts)} prompts {finding}: {versions.in_words(before.template, template, kind)}",
        detected_by=detector,
        family=tenant.family_of(state),
        previous=before.number,
        diff=versions.unified_diff(before.template, template),
        versioned=True,
        details=details,
    )
    return [event, *tenant.replace_in_family(state)]
