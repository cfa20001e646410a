"""Which prompts come together, which stay apart, and what is said about it, on real embeddings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from schemas.errors import ConflictingDuplicate
from schemas.ids import cluster_id
from schemas.limits import TEXT_BYTES_MAX
from schemas.prompts import ClusterChangeKind, ClusteredStep
from streams.prompts.clustering import rows
from streams.prompts.clustering.policy import ALGORITHM, Policy
from tests.clustering import (
    CATALOGUE,
    ONE_OFFS,
    RECIPE,
    REPLY,
    REPORT,
    ROUTE,
    TEMPLATES,
    TENANT,
    Feed,
    an_arrival,
    assignments,
    busy_stream,
    changes,
    filled,
    interleaved,
    turbulent_stream,
)
from tests.wire import MODERATION


def homes(*kinds: list[str], known: bool = True) -> list[set[str | None]]:
    """Return the clusters each kind of prompt ends in, when they arrive mixed; `known` = after other templates."""
    feed = Feed()
    feed.feed(busy_stream() if known else ())
    before = feed.fed
    texts = interleaved(*kinds)
    feed.feed(texts)
    where = list(zip(texts, feed.clusters()[before:], strict=True))
    return [{cluster for text, cluster in where if text in set(kind)} for kind in kinds]


# What comes together and what stays apart.


def test_each_template_becomes_one_cluster_and_one_offs_stay_unclustered() -> None:
    *templates, one_offs = homes(*(filled(template, 58) for template in TEMPLATES), list(ONE_OFFS), known=False)
    assert [len(home) for home in templates] == [1] * len(TEMPLATES)
    assert len(set.union(*templates) - {None}) == len(TEMPLATES)
    assert one_offs == {None}


@pytest.mark.parametrize("count", [10, 80])
def test_the_only_template_of_a_tenant_is_found(count: int) -> None:
    # Everything the tenant sends holds its constants, so nothing of the tenant's own tells them from common words.
    (home,) = homes(
        filled("You operate a shop. Tell {name} when {thing} will arrive, and confirm.", count), known=False
    )
    assert len(home) == 1
    assert None not in home


@pytest.mark.parametrize("known", [False, True])
def test_templates_that_differ_in_a_few_fixed_words_stay_apart(known: bool) -> None:
    opening = "You answer mail for a small shop. Customer {name} asks for {thing}. "
    accept, decline = homes(
        filled(opening + "Accept the request politely and say when it ships.", 40),
        filled(opening + "Decline the request firmly and say why it fails.", 40),
        known=known,
    )
    assert len(accept) == len(decline) == 1
    assert None not in accept | decline
    assert accept != decline


def test_a_labelled_slot_of_two_values_does_not_split_its_template() -> None:
    template = "Write a letter to {{name}}'s landlord about {{thing}}.\nTone: {tone}\nClose with thanks and the date."
    formal, warm = homes(
        filled(template.format(tone="formal and very short"), 30),
        filled(template.format(tone="warm but not too familiar"), 30),
    )
    assert formal == warm
    assert len(formal) == 1
    assert None not in formal


def test_instructions_that_begin_with_opposite_verbs_do_not_merge() -> None:
    template = "Please {verb} the service {{name}} on host {{number}} and report when {{thing}} is ready."
    start, stop = homes(filled(template.format(verb="start"), 40), filled(template.format(verb="stop"), 40))
    assert len(start) == len(stop) == 1
    assert None not in start | stop
    assert start != stop


def test_a_prompt_made_of_other_templates_constants_takes_no_cluster_along() -> None:
    feed = Feed()
    feed.feed(busy_stream())
    before = feed.clusters()
    patchwork = [
        " ".join(part.format(name="Ada", other="Bo", thing="a kettle", number=7) for part in parts)
        for parts in ((REPLY, CATALOGUE, ROUTE), (ROUTE, RECIPE, REPORT), tuple(TEMPLATES), tuple(reversed(TEMPLATES)))
    ]
    feed.feed(patchwork)
    feed.feed(filled(REPLY, 10, seed=9))
    assert feed.clusters()[: len(before)] == before
    assert not changes(feed.steps, ClusterChangeKind.MERGED)
    assert set(feed.clusters()[-10:]) == {before[busy_stream().index(filled(REPLY, 1)[0])]}


@pytest.mark.parametrize("unit", ["word ", "\n", "漢", "x", "Describe it. "])
def test_prompts_as_long_as_allowed_are_placed_like_others(unit: str) -> None:
    size = TEXT_BYTES_MAX - 1_000
    feed = Feed()
    feed.feed(busy_stream())
    text = unit * (size // len(unit.encode()))
    (first,) = assignments(feed.feed([text]))
    assert first.prompt.text == text
    assert first.cluster_id is None


def test_a_long_value_does_not_hide_a_template() -> None:
    feed = Feed()
    long_values = [f"{' '.join(filled('{thing} {number} {name}', 40, seed=n))}" for n in range(8)]
    feed.feed(busy_stream())
    feed.feed(
        f"Read the stock list below and name the dearest piece.\n{value}\nAnswer with one word."
        for value in long_values
    )
    homes_found = set(feed.clusters()[-8:])
    assert len(homes_found) == 1


def test_empty_and_one_word_prompts_wait() -> None:
    feed = Feed()
    feed.feed(["", " ", "yes", "yes", "no", "!", "yes"])
    assert set(feed.clusters()) == {None}


# Founding.


def test_a_cluster_is_founded_late_and_its_prompts_move_there_in_full() -> None:
    feed = Feed()
    feed.feed(ONE_OFFS)
    texts = filled(RECIPE, 6)
    steps = feed.feed(texts)
    (founded,) = changes(steps)
    assert founded.kind is ClusterChangeKind.FOUNDED
    moved = [assignment for assignment in assignments(steps) if assignment.sequence == 1]
    assert len(moved) >= Policy().founders_min
    for assignment in moved:
        assert assignment.decision.gate == "moved"
        assert assignment.cluster_id == founded.cluster_id
        assert assignment.previous_cluster_id is None
        assert assignment.prompt.text == texts[int(assignment.prompt.prompt_id[1:]) - len(ONE_OFFS)]
        assert assignment.moderation == MODERATION
    assert set(feed.clusters()[len(ONE_OFFS) :]) == {founded.cluster_id}


def test_a_cluster_is_named_after_its_founders() -> None:
    feed = Feed()
    steps = feed.feed([*ONE_OFFS, *filled(RECIPE, 6)])
    (founded,) = changes(steps)
    founders = [one.prompt.prompt_id for one in assignments(steps) if one.sequence == 1]
    assert founded.cluster_id == cluster_id(TENANT, founders)
    assert founded.prompt_id == founders[-1]


def test_what_an_arrival_gives_rise_to_follows_its_own_assignment() -> None:
    feed = Feed()
    for number, text in enumerate(turbulent_stream()):
        first, *rest = feed.feed([text])
        assert first.assignment is not None
        assert (first.assignment.prompt.prompt_id, first.assignment.sequence) == (f"p{number}", 0)
        kinds = [step.assignment is not None for step in rest]
        assert kinds == sorted(kinds), "changes come before the moves they cause"


@pytest.mark.parametrize("stream", [busy_stream, turbulent_stream])
def test_no_chain_of_assignments_has_a_gap(stream: Callable[[], list[str]]) -> None:
    feed = Feed()
    feed.feed(stream())
    chains: dict[str, list[tuple[int, str | None, str | None]]] = {}
    merged_into: dict[str | None, str] = {}
    for step in feed.steps:
        if step.change is not None and step.change.kind is ClusterChangeKind.MERGED:
            merged_into.update(dict.fromkeys(step.change.other_cluster_ids, step.change.cluster_id))
        if step.assignment is not None:
            one = step.assignment
            chains.setdefault(one.prompt.prompt_id, []).append((one.sequence, one.previous_cluster_id, one.cluster_id))
    assert len(chains) == feed.fed
    for chain in chains.values():
        assert [sequence for sequence, _, _ in chain] == list(range(len(chain)))
        for (_, _, cluster), (_, left, _) in pairwise(chain):
            here = cluster
            while here != left:
                here = merged_into[here]


def test_every_step_would_pass_the_validation_that_it_is_built_without() -> None:
    feed = Feed()
    feed.feed(turbulent_stream())
    for step in feed.steps:
        assert ClusteredStep.model_validate(step.model_dump()) == step


def test_every_cluster_named_in_an_assignment_was_founded_before() -> None:
    feed = Feed()
    known: set[str] = set()
    for text in turbulent_stream():
        steps = feed.feed([text])
        known |= {change.cluster_id for change in changes(steps, ClusterChangeKind.FOUNDED)}
        assert {one.cluster_id for one in assignments(steps)} <= known | {None}


# Bounds.


def test_waiting_prompts_are_bounded_in_number() -> None:
    feed = Feed(Policy(waiting_max=4))
    feed.feed(ONE_OFFS)
    assert feed.keys(rows.WAITING) == {f"{TENANT}/{number}" for number in range(7, 11)}


def test_waiting_prompts_are_bounded_in_age() -> None:
    feed = Feed(Policy(waiting_age_max=5))
    feed.feed([*ONE_OFFS[:3], *filled(REPLY, 20)])
    assert not feed.keys(rows.WAITING)
    assert set(feed.clusters()[:3]) == {None}


def test_a_cluster_not_fed_retires_and_is_revived_by_its_next_prompt() -> None:
    feed = Feed(Policy(retire_after=30))
    feed.feed(busy_stream())
    recipes = set(filled(RECIPE, 58))
    (home,) = {cluster for text, cluster in zip(busy_stream(), feed.clusters(), strict=True) if text in recipes}
    retired = changes(feed.feed(filled(ROUTE, 60, seed=5)), ClusterChangeKind.RETIRED)
    assert home in {change.cluster_id for change in retired}
    feed.rebuild()
    steps = feed.feed(filled(RECIPE, 1, seed=5))
    assert [(change.kind, change.cluster_id) for change in changes(steps)] == [(ClusterChangeKind.REVIVED, home)]
    assert [one.cluster_id for one in assignments(steps)] == [home]
    feed.feed(filled(RECIPE, 12, seed=6))
    assert set(feed.clusters()[-12:]) == {home}


# Duplicates.


def test_a_duplicate_is_answered_as_one_and_otherwise_ignored() -> None:
    feed = Feed()
    texts = filled(REPLY, 9)
    feed.feed([*ONE_OFFS, *texts])
    stored = dict(feed.stored)
    (step,) = feed.engine.add(an_arrival(12, texts[2]))
    assert step.assignment is not None
    assert step.assignment.duplicate
    assert (step.assignment.sequence, step.assignment.cluster_id) == (0, None)
    assert step.assignment.decision.gate == "duplicate"
    feed.write()
    assert feed.stored == stored


def test_an_id_used_for_another_text_is_refused_and_changes_nothing() -> None:
    feed = Feed()
    feed.feed([*ONE_OFFS, *filled(REPLY, 9)])
    stored = dict(feed.stored)
    with pytest.raises(ConflictingDuplicate):
        feed.engine.add(an_arrival(12, "another text"))
    feed.write()
    assert feed.stored == stored


def test_an_id_is_known_until_enough_newer_ones_came() -> None:
    feed = Feed(Policy(recent_ids_max=64))
    feed.feed(["the very first text", *filled(ROUTE, 70)])
    (known,) = assignments(feed.engine.add(an_arrival(0, "the very first text")))
    assert known.duplicate
    feed.feed(filled(ROUTE, 80, seed=2))
    (forgotten, *_) = assignments(feed.engine.add(an_arrival(0, "another text")))
    assert not forgotten.duplicate


# What is said about a decision.


def test_a_decision_names_both_nearest_clusters_and_by_how_much_one_won() -> None:
    feed = Feed(Policy(version="7"))
    feed.feed(turbulent_stream())
    contested = [
        one for one in assignments(feed.steps) if one.decision.gate == "structure" and one.decision.second_cluster_id
    ]
    assert contested
    for one in contested:
        decision = one.decision
        assert decision.nearest_cluster_id == one.cluster_id != decision.second_cluster_id
        assert 0.8 <= decision.nearest_structure <= 1
        assert 0 <= decision.second_structure <= 1
        assert decision.margin == pytest.approx(decision.nearest_structure - decision.second_structure, abs=1e-4)
        assert 0 < decision.nearest_meaning <= 1
        assert 0 < one.similarity <= 1
        assert 0 < one.confidence <= 1
        assert (decision.algorithm, decision.policy_version) == (ALGORITHM, "7")
        assert one.reasoning


def test_a_prompt_without_cluster_has_neither_similarity_nor_confidence() -> None:
    feed = Feed()
    feed.feed(ONE_OFFS)
    for one in assignments(feed.steps):
        assert (one.similarity, one.confidence, one.decision.gate) == (0.0, 0.0, "none")
        assert "waits" in one.reasoning


def test_a_prompt_that_no_gate_lets_in_is_told_how_much_it_lacks() -> None:
    feed = Feed(Policy(cover_percent=85))
    feed.feed(turbulent_stream())
    near_misses = [
        one for one in assignments(feed.steps) if one.decision.gate == "none" and one.decision.nearest_cluster_id
    ]
    assert near_misses
    for one in near_misses:
        assert f"holds only {one.decision.nearest_structure:.0%}" in one.reasoning
        assert "a member needs 85%" in one.reasoning
