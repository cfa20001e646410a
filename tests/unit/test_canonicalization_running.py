"""Values that move with time, or stay for a while, are no evolution: dates, counters, the document of a session."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from schemas.events import EvolutionEvent, EvolutionType
from streams.prompts.canonicalization.drift import come_in_runs
from streams.prompts.canonicalization.evolution import AGREEING_MIN, is_worded_again
from streams.prompts.canonicalization.slots import Sketch
from streams.prompts.canonicalization.template import Template
from tests.canonical import CITIES, TOPICS, dice, events, members, run

PROMPTS = 600
A_DAY = 100  # prompts
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

RUNNING: dict[str, Callable[[int], str]] = {
    "a counter": str,
    "order numbers": lambda number: f"#{104_233 + 3 * number}",
    "tickets, four prompts each": lambda number: f"TCK-{number // 4:05d}",
    "dates": lambda number: f"{NEW_YEAR + timedelta(days=number // 3):%Y-%m-%d}",
    "times": lambda number: f"{NEW_YEAR + timedelta(seconds=700 * number):%Y-%m-%d %H:%M:%S}",
}


def told(value_of: Callable[[int], str], count: int = PROMPTS) -> list[EvolutionEvent]:
    """Return what is told of a template with one such value and one that comes from anywhere."""
    chance = dice(2)
    texts = [
        f"Look up what we know about {value_of(number)} in the files of the shop.\nTell {chance.choice(CITIES)} of it."
        for number in range(count)
    ]
    return events(run(members(texts)))


@pytest.mark.parametrize("value_of", RUNNING.values(), ids=RUNNING)
def test_values_that_run_are_no_evolution(value_of: Callable[[int], str]) -> None:
    assert [event.type for event in told(value_of) if event.type is not EvolutionType.DRIFT_DETECTED] in (
        [EvolutionType.CREATED],
        [EvolutionType.CREATED, EvolutionType.UPDATED],  # of times, the date is fixed until it is another one
    )
    drifts = sum(event.type is EvolutionType.DRIFT_DETECTED for event in told(value_of))
    assert drifts <= 1, "before two dozen are known, nobody can tell"


def test_the_date_of_today_is_a_slot_once_it_was_another_for_the_third_time() -> None:
    found = told(lambda number: f"{NEW_YEAR + timedelta(days=number // A_DAY):%A, %d %B}", 12 * A_DAY)
    versions = [event for event in found if event.type is not EvolutionType.DRIFT_DETECTED]
    assert [event.type.value for event in versions] == ["CREATED", "UPDATED", "UPDATED", "SLOT_ADDED"]
    assert versions[-1].template is not None
    assert "{{" in versions[-1].template.template.partition("about ")[2][:2]


BURSTS: dict[str, Callable[[int], str]] = {
    "a document for thirty questions": lambda number: f"{document(number // 30)}, that is {dice(number).random()}",
    "now and then another document": lambda number: document(number // 50 if dice(number).random() < 0.8 else number),
    "a language for a batch": lambda number: ("Thai", "Dutch", "Czech", "Malay", "Irish")[number // 60 % 5],
}


def document(number: int) -> str:
    chance = dice(1_000 + number)
    return " ".join("".join(chance.choices("abdegiklmnorstu", k=6)) for _ in range(12))


@pytest.mark.parametrize("value_of", BURSTS.values(), ids=BURSTS)
def test_a_value_that_stays_for_a_while_is_a_slot_after_three_others_and_nothing_more(
    value_of: Callable[[int], str],
) -> None:
    found = [event.type.value for event in told(value_of, 2 * PROMPTS)]
    assert found[0] == "CREATED"
    assert len(found) <= 4
    assert "SLOT_ADDED" in found
    assert "SLOT_REMOVED" not in found


@pytest.mark.parametrize("days", [4, 12], ids=["the fourth stays for good", "each day another"])
def test_a_day_beside_another_slot_is_part_of_it_and_nobody_stays_unread(days: int) -> None:
    chance = dice(2)
    texts = [
        f"Report for {NEW_YEAR + timedelta(days=min(number // A_DAY, days - 1)):%A} {chance.choice(CITIES)} of it.\n"
        f"Tell what we know about {chance.choice(TOPICS)} in the files of the shop."
        for number in range(12 * A_DAY)
    ]
    outcomes = run(members(texts))
    versions = [event.type.value for event in events(outcomes) if event.type is not EvolutionType.DRIFT_DETECTED]
    assert versions == ["CREATED", "UPDATED", "UPDATED", "UPDATED"]
    unread = [number for number, outcome in enumerate(outcomes) if outcome.prompt and outcome.prompt.raw]
    assert len(unread) <= 3 * AGREEING_MIN


def template_of(*parts: str) -> Template:
    return Template(parts, tuple(f"slot_{number}" for number in range(len(parts) - 1)))


def test_a_place_is_worded_again_after_three_changes_of_it_and_not_before() -> None:
    wordings = [template_of(f"On {day} write to ", ".") for day in ("Monday", "Tuesday", "Friday", "Sunday")]
    elsewhere = template_of("On Friday phone ", ".")
    assert [is_worded_again(wordings[:known], None, wordings[3]) for known in range(1, 4)] == [False, False, True]
    assert not is_worded_again(wordings[:3], None, elsewhere)
    assert not is_worded_again(wordings[:3], None, template_of("On Friday write to ", " and wait."))
    opened = template_of("On ", " write to ", ".")
    assert is_worded_again([opened], wordings[2], wordings[3])
    assert not is_worded_again([opened], wordings[2], template_of("On ", " write to ", " by hand."))


def test_bursts_are_told_from_values_that_come_one_by_one() -> None:
    def seen(values: list[str]) -> Sketch:
        sketch = Sketch()
        for value in values:
            sketch.add(value)
        return sketch

    chance = dice(8)
    bursts = [CITIES[number // 20 % len(CITIES)] for number in range(200)]
    mixed = [chance.choice(CITIES) for _ in range(200)]
    rare = ["no" if number % 20 else "yes" for number in range(200)]
    assert seen(bursts).comes_in_bursts(bursts[-16:])
    assert not seen(mixed).comes_in_bursts(mixed[-16:])
    assert not seen(rare).comes_in_bursts(rare[-16:]), "a value that most have is no burst of it"
    assert not seen(mixed + ["Rome"] * 16).comes_in_bursts(["Rome"] * 16), "fixed for the first time"
    assert not seen(bursts + mixed[:16]).comes_in_bursts(mixed[:16]), "no more"
    assert not Sketch().comes_in_bursts([])


def test_a_value_fixed_for_good_is_still_a_version() -> None:
    chance = dice(7)
    found = told(lambda number: chance.choice(TOPICS) if number < A_DAY else "what the harbour master said", 2 * A_DAY)
    assert [event.type.value for event in found] == ["CREATED", "SLOT_REMOVED"]


def test_another_number_in_the_wording_shows_that_it_varies() -> None:
    found = told(lambda number: f"order {7 if number < A_DAY else 9}", 2 * A_DAY)
    assert [event.type.value for event in found] == ["CREATED", "SLOT_ADDED"]


def test_a_slot_whose_values_ran_and_are_of_another_kind_now_has_drifted() -> None:
    chance = dice(4)
    dates = RUNNING["dates"]
    found = told(lambda number: dates(number) if number < 3 * A_DAY else chance.choice(TOPICS), 4 * A_DAY)
    assert found[-1].type is EvolutionType.DRIFT_DETECTED
    assert found[-1].details["examples_after"][-1] in TOPICS


def test_values_that_changed_once_do_not_run() -> None:
    chance = dice(5)
    earlier = [chance.choice(CITIES) for _ in range(24)]
    for new in (8, 12, 16):
        newest = [chance.choice(CITIES) for _ in range(16 - new)] + [chance.choice(TOPICS) for _ in range(new)]
        assert not come_in_runs([*earlier, *newest], range(24))
    counted = [str(number) for number in range(1_000, 1_040)]
    assert come_in_runs(counted, range(24))
    shuffled = dice(6).sample(range(24), 24)
    assert come_in_runs([counted[at] for at in shuffled] + counted[24:], shuffled), "the order kept is not the one come"
