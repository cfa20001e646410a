"""Golden evolutions, small enough to read: what a caller does on the left, what is announced on the right.

Each story is a list of wordings with the number of prompts sent in them; `a+b` mixes two evenly, `a>b` is a roll-out:
the share of b grows with each prompt.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from schemas.events import EvolutionEvent
from streams.prompts.canonicalization.cluster import (
    CURRENT,
    EARLIER,
    POOL_CHARS_MAX,
    ClusterState,
)
from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.evolution import AGREEING_MIN, sharing_new_words, went_back
from streams.prompts.canonicalization.logic import Canonicalization, Policy
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.slots import KEPT_HASHES, TOP_VALUES, Sketch
from streams.prompts.canonicalization.template import Template
from tests.canonical import CITIES, TONES, TOPICS, dice, events, members, run, step

WORDINGS = {
    "plain": "Write a {tone} letter to {city} about {topic}, please.\nThank you.",
    "signed": "Write a {tone} letter to {city} about {topic}, please.\nSign it as {city2}.\nThank you.",
    "short": "Write a {tone} letter about {topic}, please.\nThank you.",
    "polite": "Would you kindly write a {tone} letter to {city} about {topic}?\nI would be grateful.",
    "labelled": "Write a {tone} letter to {city} about Topic of the letter: {topic}, please.\nThank you.",
    "other": "Table of customers follows. Count all rows whose column town is {city} and answer in one word.",
    "numbers": "Write a {tone} letter to {number} about {number}, please.\nThank you.",
}


def told(story: list[tuple[str, int]], seed: int = 1) -> list[str]:
    """Return the prompts of a story."""
    chance = dice(seed)
    texts = []
    for wording, count in story:
        before, ramp, after = wording.partition(">")
        first, mixed, second = wording.partition("+")
        for number in range(count):
            name = wording
            if ramp:
                name = after if chance.random() < (number + 1) / count else before
            elif mixed:
                name = chance.choice((first, second))
            texts.append(
                WORDINGS[name].format(
                    tone=chance.choice(TONES),
                    city=chance.choice(CITIES),
                    city2=chance.choice(CITIES),
                    topic=chance.choice(TOPICS),
                    number=chance.randrange(10**6),
                )
            )
    return texts


def announced(story: list[tuple[str, int]]) -> list[EvolutionEvent]:
    return events(run(members(told(story))))


def line(event: EvolutionEvent) -> str:
    return f"{event.type.value} {event.new_version or event.previous_version}"


GOLDEN = {
    "nothing happens": ([("plain", 150)], ["CREATED 1.0.0"]),
    "a sentence with a slot comes": ([("plain", 40), ("signed", 40)], ["CREATED 1.0.0", "SLOT_ADDED 1.1.0"]),
    "a slot goes": ([("plain", 40), ("short", 40)], ["CREATED 1.0.0", "SLOT_REMOVED 2.0.0"]),
    "other words, same slots": ([("plain", 40), ("polite", 40)], ["CREATED 1.0.0", "UPDATED 1.0.1"]),
    "a label in front of a slot": ([("plain", 40), ("labelled", 40)], ["CREATED 1.0.0", "UPDATED 1.0.1"]),
    "another template altogether": ([("plain", 40), ("other", 40)], ["CREATED 1.0.0", "UPDATED 2.0.0"]),
    "a roll-out": ([("plain", 40), ("plain>signed", 30), ("signed", 20)], ["CREATED 1.0.0", "SLOT_ADDED 1.1.0"]),
    "a roll-out of words only": (
        [("plain", 40), ("plain>labelled", 30), ("labelled", 30)],
        ["CREATED 1.0.0", "UPDATED 1.0.1"],
    ),
    "two wordings side by side": ([("plain", 40), ("plain+signed", 80)], ["CREATED 1.0.0", "SLOT_ADDED 1.1.0"]),
    "there and back": (
        [("plain", 40), ("signed", 40), ("plain", 40)],
        ["CREATED 1.0.0", "SLOT_ADDED 1.1.0", "SLOT_REMOVED 2.0.0"],
    ),
    "values of another kind": ([("plain", 40), ("numbers", 40)], ["CREATED 1.0.0", "DRIFT_DETECTED 1.0.0"]),
}


@pytest.mark.parametrize(("story", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_a_story_is_told_in_events(story: list[tuple[str, int]], expected: list[str]) -> None:
    assert [line(event) for event in announced(story)] == expected


def test_going_back_says_which_wording_was_restored() -> None:
    *_, back = announced(GOLDEN["there and back"][0])
    assert back.details == {"restores_version": "1.0.0"}
    assert "went back to the wording of version 1.0.0" in back.reason
    assert back.diff.count("\n-") + back.diff.startswith("-") >= 1


def test_the_diff_shows_the_line_that_came_and_nothing_else() -> None:
    *_, added = announced(GOLDEN["a sentence with a slot comes"][0])
    changed = [text for text in added.diff.splitlines() if text[0] in "+-"]
    assert len(changed) == 1
    assert changed[0].startswith("+Sign it as {{")


def test_stragglers_of_a_roll_out_are_no_way_back() -> None:
    assert not went_back(earlier_before=20, members_before=60, run=8)
    assert went_back(earlier_before=1, members_before=60, run=8)
    assert not went_back(earlier_before=30, members_before=60, run=16), "two wordings side by side, for ever"


def prompts_until_back(before: list[tuple[str, int]]) -> int:
    """Return how many prompts in the plain wording it takes until they count as a way back to it."""
    story = told([*before, ("plain", 40)])
    outcomes = run(members(story))
    return 1 + next(
        n for n, outcome in enumerate(outcomes[-40:]) if any("went back" in e.reason for e in outcome.events)
    )


def test_members_of_the_run_itself_are_no_stragglers_that_speak_against_it() -> None:
    assert prompts_until_back([("plain", 40), ("signed", 40)]) == AGREEING_MIN


def test_each_straggler_before_makes_a_way_back_take_longer() -> None:
    known, stragglers = [("plain", 40), ("signed", 40)], [("plain", 7), ("signed", 2)]
    assert AGREEING_MIN < prompts_until_back(known + stragglers) < prompts_until_back(known + 2 * stragglers)


def test_each_prompt_is_read_with_the_version_that_leaves_least_to_the_slots() -> None:
    outcomes = run(members(told([("plain", 40), ("short", 40), ("plain", 3)])))
    read = [outcome.prompt for outcome in outcomes[-3:]]
    assert {prompt.template_version for prompt in read if prompt} == {"1.0.0"}, "the new one would read it too, loosely"


def test_the_version_that_leaves_least_to_the_slots_reads_first_and_the_newest_of_equals() -> None:
    state = ClusterState("c1", 0)
    wordings = {
        "1.0.0": ("Write to ", " about ", "."),
        "1.1.0": ("Write to ", " on tea about ", "."),
        "1.1.1": ("Write to ", " about ", ""),
        "1.1.2": ("Write to ", " on fog about ", "."),
        "2.0.0": ("Write ", ""),
    }
    for number, constants in wordings.items():
        state.begin(name_slots(Template(constants)), number)
    texts = {
        "1.0.0": "Write to Ann about tea.",
        "1.1.0": "Write to Ann on tea about fog.",
        "1.1.1": "Write to Ann about tea",
        "1.1.2": "Write to Ann on tea about tea on fog about fog.",
        "2.0.0": "Write home",
    }
    assert {number: state.read(text).version.number for number, text in texts.items()} == {n: n for n in texts}
    assert [state.read(text).reading for text in texts.values()] == [EARLIER] * 4 + [CURRENT]
    assert [number for _, number in state.readers()] == ["1.1.2", "1.1.0", "1.0.0", "1.1.1", "2.0.0"]


def test_a_word_that_many_of_the_newest_share_is_new_only_if_it_was_rare_before() -> None:
    earlier = [f"{word} of old" for word in TOPICS]
    newest = [f"{word} in short" for word in TOPICS]
    few, many = (Columns([before + newest], len(before)) for before in (earlier, earlier + newest))
    assert list(sharing_new_words(few, newest, len(earlier), [Sketch()])) == [newest[-8:], newest]
    assert list(sharing_new_words(many, newest, len(earlier + newest), [Sketch()])) == []


def test_a_slot_that_only_departed_members_filled_is_dropped() -> None:
    """Clustering takes back what it put in the wrong cluster; the template must not keep the gap they needed."""
    wide = [text.replace("please", f"please, {word}") for word, text in zip(TOPICS, told([("plain", 8)]), strict=False)]
    mixed = [step(text, number, prompt_id=f"stray{number}") for number, text in enumerate(wide)]
    mixed += members(told([("plain", 24)], seed=2), start=100)
    engine = Canonicalization("acme", Policy())
    run(mixed, engine)
    before = engine.tenant.clusters["c1"].versions[-1].template.slots
    strays = [step(text, n, None, sequence=1, left="c1", prompt_id=f"stray{n}") for n, text in enumerate(wide)]
    found = events(run([*strays, *members(told([("plain", 24)], seed=3), start=200)], engine))
    assert engine.tenant.clusters["c1"].versions[-1].template.slots == before - 1 == 3
    assert [event.detected_by.split()[-1] for event in found] == ["refinement"]
    assert len(engine.tenant.clusters["c1"].versions) == 1, "what it corrects is never read with again"


def test_statistics_are_told_anew_as_members_double_without_a_new_version() -> None:
    outcomes = run(members(told([("plain", 300)])))
    told_at = [number for number, outcome in enumerate(outcomes) if outcome.statistics is not None]
    (created,) = events(outcomes)
    gaps = [later - sooner for sooner, later in pairwise(told_at)]
    assert gaps == [32, 64, 128]
    last = outcomes[told_at[-1]].statistics
    assert last is not None
    assert (last.template_id, last.version) == (created.template_id, "1.0.0")
    assert '"values":2' in last.slots_json, "about 270 values were counted by then"


LONG = "Summarise the file below in one sentence.\n---\n{file}\n---\nUse no more than {number} words.\nSummary:"


def test_prompts_of_256_kib_have_a_template_and_take_bounded_memory() -> None:
    chance = dice(4)
    engine = Canonicalization("acme", Policy())
    texts = [
        LONG.format(file=chance.randbytes(125 * 1024).hex(" ", 3), number=chance.randrange(20, 60)) for _ in range(40)
    ]
    outcomes = run(members(texts), engine)
    (created,) = events(outcomes)
    assert created.template is not None
    assert created.template.template.startswith("Summarise the file below in one sentence.\n---\n{{")
    assert outcomes[-1].prompt is not None
    assert not outcomes[-1].prompt.raw
    assert engine.cost <= POOL_CHARS_MAX
    assert sum(len(row or b"") for _, _, row in engine.dirty()) < 64 * 1024


def test_a_constant_part_longer_than_what_is_kept_of_a_text_still_settles() -> None:
    rules = "\n".join(
        f"Rule {n}: never mention {TOPICS[n % 16]} before {CITIES[n % 13]} has agreed." for n in range(400)
    )
    texts = [f"{rules}\nQuestion: {number * 7919}?" for number in range(40)]
    outcomes = run(members(texts))
    assert [event.type.value for event in events(outcomes)][:1] == ["CREATED"]
    assert outcomes[-1].prompt is not None
    assert not outcomes[-1].prompt.raw


def test_ever_new_values_take_no_more_memory_than_a_few() -> None:
    """A million would take the test a minute; what is kept after 3,000 is what is kept after a million."""
    sizes = []
    for count in (1_500, 3_000):
        engine = Canonicalization("acme", Policy())
        run(members([LONG.format(file=f"{n * 104_729:020d}", number=n) for n in range(count)]), engine)
        cluster = engine.tenant.clusters["c1"]
        assert all(len(s.hashes) <= KEPT_HASHES and len(s.top) <= 2 * TOP_VALUES for s in cluster.sketches)
        sizes.append(sum(len(row or b"") for _, _, row in engine.dirty()))
    assert sizes[1] < 1.25 * sizes[0] < 16 * 1024
