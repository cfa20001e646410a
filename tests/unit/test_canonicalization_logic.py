"""The life of a cluster: learning, settling, new versions, drift, and what clustering does to it."""

from __future__ import annotations

import subprocess
import sys
import zlib
from itertools import pairwise

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import StateIncompatible
from schemas.events import EvolutionType
from schemas.prompts import ClusterChangeKind, ClusteredStep
from streams.prompts.canonicalization.evolution import gave_way
from streams.prompts.canonicalization.logic import Canonicalization, Policy
from streams.prompts.canonicalization.template import SLOT_MARK, fill
from tests.canonical import change, dice, events, letters, members, run, step

LETTER = "Write a {tone} letter to {city} about {topic}, please.\nThank you."
WITH_LENGTH = "Write a {tone} letter to {city} about {topic}, please.\nLength: {city} lines.\nThank you."
REWORDED = "Compose a {tone} note for someone in {city} that deals with {topic}.\nMany thanks in advance."
WITHOUT_CITY = "Write a {tone} letter about {topic}, please.\nThank you."


def mixed(one: list[ClusteredStep], two: list[ClusteredStep]) -> list[ClusteredStep]:
    """Interleave two streams evenly."""
    ranked = [(n / len(one), 0, each) for n, each in enumerate(one)] + [
        (n / len(two), 1, each) for n, each in enumerate(two)
    ]
    return [each for _, _, each in sorted(ranked, key=lambda item: item[:2])]


def shape(template: str) -> str:
    return SLOT_MARK.sub("{}", template)


def types(steps: list[ClusteredStep]) -> list[str]:
    return [event.type.value for event in events(run(steps))]


def evolved(before: str, after: str, *, old: int = 30, new: int = 20) -> list[ClusteredStep]:
    return members(letters(old, template=before) + letters(new, seed=2, template=after))


def test_a_template_is_announced_once_when_it_has_settled() -> None:
    (created,) = events(run(members(letters(60))))
    assert created.type is EvolutionType.CREATED
    assert created.new_version == "1.0.0"
    assert created.template is not None
    assert shape(created.template.template) == "Write a {} letter to {} about {}, please.\nThank you."
    assert 12 <= created.template.members < 20, "not from the first prompts, and not after long"


def test_few_prompts_announce_nothing() -> None:
    assert types(members(letters(11))) == []


@pytest.mark.parametrize(
    ("after", "kind", "version"),
    [
        (REWORDED, EvolutionType.UPDATED, "1.0.1"),
        (WITH_LENGTH, EvolutionType.SLOT_ADDED, "1.1.0"),
        (WITHOUT_CITY, EvolutionType.SLOT_REMOVED, "2.0.0"),
    ],
)
def test_a_caller_that_changes_its_template_makes_a_new_version(after: str, kind: EvolutionType, version: str) -> None:
    created, changed = events(run(evolved(LETTER, after)))
    assert (changed.type, changed.previous_version, changed.new_version) == (kind, "1.0.0", version)
    assert int(changed.prompt_id[1:]) - 30 < 12, "seen soon after the change"
    assert changed.diff.count("\n+") + changed.diff.startswith("+") >= 1
    assert created.template_id != changed.template_id


def test_stragglers_of_the_old_wording_are_read_with_their_own_version() -> None:
    steps = evolved(LETTER, REWORDED)
    late = step(letters(1, seed=9)[0], 999)
    *_, outcome = run([*steps, late])
    assert outcome.prompt is not None
    assert (outcome.prompt.template_version, outcome.prompt.raw) == ("1.0.0", False)


def test_a_new_wording_in_a_new_cluster_is_the_next_version_when_the_elder_fell_silent() -> None:
    other = [step(f"noise {n}", 10_000 + n, None) for n in range(200)]
    old = members(letters(30))
    new = members(letters(30, seed=2, template=WITHOUT_CITY), start=100, cluster="c2")
    changed = events(run([*mixed(old, other[:60]), *mixed(new, other[60:])]))
    assert [(e.cluster_id, e.type.value, e.new_version) for e in changed] == [
        ("c1", "CREATED", "1.0.0"),
        ("c2", "SLOT_REMOVED", "2.0.0"),
    ]
    assert changed[0].family_id == changed[1].family_id
    assert changed[1].details == {"succeeds_cluster_id": "c1"}


def test_two_variants_side_by_side_are_siblings_of_a_family() -> None:
    one = members(letters(60))
    two = members(letters(60, seed=2, template=WITHOUT_CITY), start=100, cluster="c2")
    found = events(run(mixed(one, two)))
    assert [event.type.value for event in found] == ["CREATED", "CREATED"]
    assert found[0].family_id == found[1].family_id


def test_unlike_templates_are_families_of_their_own() -> None:
    other = "Given the table below, list every customer from {city} who bought {topic} twice ({tone})."
    found = events(run(members(letters(30)) + members(letters(30, template=other), start=100, cluster="c2")))
    assert found[0].family_id != found[1].family_id


def test_values_from_elsewhere_are_a_drift() -> None:
    numbers = [LETTER.format(tone="dry", city=n * 7919, topic=n * 104729 % 9973) for n in range(1, 30)]
    kinds = types(members(letters(40) + numbers))
    assert kinds == ["CREATED", "DRIFT_DETECTED"]


def test_a_steady_stream_raises_no_alarm() -> None:
    """Goal: the rate of false alarms. Method: 40 clusters of 150 members from fixed pools; only chance varies them."""
    alarms = []
    for seed in range(40):
        alarms += types(members(letters(150, seed=seed)))
    assert set(alarms) == {"CREATED"}


def test_the_newest_member_and_its_place_stand_in_the_event() -> None:
    created = events(run(members(letters(30))))[0]
    assert created.prompt_id == f"p{created.offset}"
    assert created.detected_by == "canonicalization/1 policy/1 settling"


def test_every_settled_prompt_is_filled_again_byte_for_byte() -> None:
    engine = Canonicalization("acme", Policy())
    templates = {}
    for each in evolved(LETTER, WITH_LENGTH, old=50, new=50):
        outcome = engine.apply(each)
        for event in outcome.events:
            if event.template:
                templates[event.template.template_id] = event.template.template
        prompt = outcome.prompt
        assert prompt is not None
        if prompt.template_id is not None and not prompt.raw:
            assert fill(templates[prompt.template_id], prompt.slots) == prompt.assignment.prompt.text


def test_a_prompt_that_does_not_parse_is_raw() -> None:
    *_, outcome = run([*members(letters(30)), step("something else", 99)])
    assert outcome.prompt is not None
    assert (outcome.prompt.raw, outcome.prompt.slots) == (True, {})


def test_an_unclustered_prompt_passes_through() -> None:
    (outcome,) = run([step("alone", 1, None)])
    assert outcome.prompt is not None
    assert (outcome.prompt.template_id, outcome.events) == (None, [])


def test_a_moved_member_leaves_its_old_cluster() -> None:
    engine = Canonicalization("acme", Policy())
    run([*members(letters(5)), step(letters(1)[0], 0, "c2", sequence=1, left="c1", prompt_id="p0")], engine)
    assert (engine.tenant.clusters["c1"].members, engine.tenant.clusters["c2"].members) == (4, 1)
    assert all(sample.prompt_id != "p0" for sample in engine.tenant.clusters["c1"].pool.values())


def test_a_merge_is_an_event_and_the_merged_template_is_withdrawn() -> None:
    two = members(letters(30, seed=2), start=100, cluster="c2")
    steps = [*members(letters(30)), *two, change(ClusterChangeKind.MERGED, "c1", "c2")]
    *_, outcome = run(steps)
    assert [event.type.value for event in outcome.events] == ["CLUSTER_MERGED"]
    assert outcome.withdrawn == ("c2",)


def test_a_cluster_that_takes_in_two_others_with_one_prompt_tells_two_events() -> None:
    steps = [*members(letters(30)), *members(letters(3, seed=8), start=100, cluster="c2")]
    steps += [*members(letters(3, seed=9), start=200, cluster="c3")]
    steps += [change(ClusterChangeKind.MERGED, "c1", other) for other in ("c2", "c3")]
    merged = [event for event in events(run(steps)) if event.type is EvolutionType.CLUSTER_MERGED]
    assert [event.details for event in merged] == [{"other_cluster_ids": [other]} for other in ("c2", "c3")]
    assert merged[0].event_id != merged[1].event_id


def test_what_clustering_does_to_a_cluster_nobody_heard_of_is_no_event() -> None:
    kinds = (ClusterChangeKind.FOUNDED, ClusterChangeKind.SPLIT, ClusterChangeKind.RETIRED, ClusterChangeKind.DISSOLVED)
    assert types([*members(letters(5)), *(change(kind) for kind in kinds)]) == []


def test_retiring_and_reviving_are_events() -> None:
    steps = [*members(letters(30)), change(ClusterChangeKind.RETIRED), change(ClusterChangeKind.REVIVED)]
    assert types(steps) == ["CREATED", "RETIRED", "REVIVED"]


def test_a_part_that_leaves_and_resembles_nothing_that_stayed_splits_the_family() -> None:
    part = "Given the table below, list every customer from {city} who bought {topic} twice ({tone})."
    steps = [
        *members(letters(30)),
        change(ClusterChangeKind.SPLIT, "c1", "c2"),
        *members(letters(30, template=part), start=100, cluster="c2"),
    ]
    assert types(steps) == ["CREATED", "CLUSTER_SPLIT", "CREATED", "FAMILY_SPLIT"]


def a_busy_stream() -> list[ClusteredStep]:
    """Return a stream in which everything happens: versions, drift, moves, merges, noise, long texts."""
    two = members(letters(40, seed=5, template=REWORDED), start=1_000, cluster="c2")
    three = members([text + " tail " * 400 for text in letters(20, seed=6)], start=2_000, cluster="c3")
    steps = mixed(evolved(LETTER, WITH_LENGTH, old=35, new=25), mixed(two, three))
    steps[50:50] = [step("x", 1_000, "c3", sequence=1, left="c2", prompt_id="p1000")]
    steps += [change(ClusterChangeKind.SPLIT, "c1", "c4"), *members(letters(15, seed=8), start=3_000, cluster="c4")]
    steps += [change(ClusterChangeKind.MERGED, "c1", "c4"), *members(letters(20, seed=7), start=4_000)]
    return steps


BUSY = a_busy_stream()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(BUSY)), max_size=6))
def test_a_restored_state_continues_as_if_never_interrupted(cuts: list[int]) -> None:
    whole = Canonicalization("acme", Policy())
    expected = run(BUSY, whole)
    stored: dict[tuple[str, str], bytes] = {}
    engine, outcomes = Canonicalization("acme", Policy()), []
    for start, end in pairwise(sorted({0, *cuts, len(BUSY)})):
        outcomes += run(BUSY[start:end], engine)
        store(engine, stored)
        engine = Canonicalization("acme", Policy(), [(table, key, row) for (table, key), row in stored.items()])
    assert outcomes == expected
    rows: dict[tuple[str, str], bytes] = {}
    store(whole, rows)
    assert stored == rows, "the rows at the end do not tell where the batches were cut"


def test_rows_written_after_each_step_end_as_those_written_once() -> None:
    engine, whole = Canonicalization("acme", Policy()), Canonicalization("acme", Policy())
    stored: dict[tuple[str, str], bytes] = {}
    for each in BUSY:
        run([each], engine)
        store(engine, stored)
    run(BUSY, whole)
    rows: dict[tuple[str, str], bytes] = {}
    store(whole, rows)
    assert stored == rows


def test_a_row_of_an_earlier_format_is_refused() -> None:
    with pytest.raises(StateIncompatible, match="format"):
        Canonicalization("acme", Policy(), [("templates", "acme/c1", zlib.compress(b"{}", 1))])


def test_rows_of_a_cluster_stay_small() -> None:
    engine = Canonicalization("acme", Policy())
    run(members([f"Summarize: {dice(n).randbytes(20_000).hex()}\nSummary:" for n in range(60)]), engine)
    total = sum(len(row or b"") for _, _, row in engine.dirty())
    assert total < 64 * 1024


def test_answers_do_not_depend_on_the_hash_seed() -> None:
    code = "from tests.unit.test_canonicalization_logic import fingerprint; print(fingerprint())"
    prints = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1


def fingerprint() -> str:
    engine = Canonicalization("acme", Policy())
    outcomes = run(BUSY, engine)
    return repr([outcome.events for outcome in outcomes]) + repr(engine.dirty())


def store(engine: Canonicalization, stored: dict[tuple[str, str], bytes]) -> None:
    for table, key, row in engine.dirty():
        if row is None:
            stored.pop((table, key), None)
        else:
            stored[table, key] = row


def test_the_base_is_a_uniform_sample_whatever_the_order() -> None:
    texts = letters(300)
    bases = []
    for order in (1, 2):
        steps = members(texts)
        dice(order).shuffle(steps)
        engine = Canonicalization("acme", Policy())
        run(steps, engine)
        cluster = engine.tenant.clusters["c1"]
        outside = {f"p{n}" for n in range(300)} - {sample.prompt_id for sample in cluster.recents()}
        smallest = sorted(outside, key=lambda prompt_id: xxhash.xxh3_64_intdigest(prompt_id.encode()))[
            : len(cluster.base)
        ]
        bases.append([sample.prompt_id for sample in cluster.bases()])
        assert bases[-1] == smallest
    assert len(set(bases[0]) & set(bases[1])) > 16


def test_a_template_that_still_changes_is_not_announced() -> None:
    narrow = [text.replace("letter to", "letter to someone in") for text in letters(11)]
    created = events(run(members(narrow + letters(30, seed=2))))[0]
    assert created.template is not None
    assert created.template.members >= 11 + 6, "six members in a row must have changed nothing"


def test_a_version_that_bridges_two_families_merges_them_and_that_survives_a_restore() -> None:
    table = "Given the table below, list every customer from {city} who bought {topic} twice ({tone})."
    bridge = table.replace("Given the table below", "As before, given the table that stands below")
    steps = [
        *members(letters(30)),
        *members(letters(30, template=table), start=100, cluster="c2"),
        *members(letters(30, seed=3, template=bridge), start=200, cluster="c1"),
    ]
    engine = Canonicalization("acme", Policy())
    outcomes = run(steps[:60], engine)
    stored: dict[tuple[str, str], bytes] = {}
    store(engine, stored)  # what is written later must hold all that changes later
    outcomes += run(steps[60:], engine)
    store(engine, stored)
    assert "FAMILY_MERGED" in [event.type.value for event in events(outcomes)]
    again = Canonicalization("acme", Policy(), [(table, key, row) for (table, key), row in stored.items()])
    (family,) = again.tenant.families.values()
    assert {state.family_id for state in again.tenant.clusters.values()} == {family.family_id}


def test_a_cluster_that_went_on_beside_another_did_not_give_way_to_it() -> None:
    steady = list(range(100, 180, 5))
    assert gave_way(steady, at=178, members=12)
    assert gave_way(steady, at=165, members=12), "a few more arrive while the new version is rolled out"
    assert not gave_way(steady, at=120, members=12), "side by side for long"
    assert not gave_way(steady, at=1_000, members=12), "silent long before"
