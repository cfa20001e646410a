"""The bench of quality itself: its methods, its held-out set, remembered runs, the report, trials of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra.bench.quality import picture, report, sensitivity
from infra.bench.quality.heldout.build import build
from infra.bench.quality.methods import METHODS, Method, Outcome
from infra.bench.quality.methods.lcs import common
from infra.bench.quality.runs import Runs
from infra.bench.quality.scoring import Labelled, Prediction, filled, score
from infra.bench.quality.sets import LabelledSet, load, stream_of
from streams.prompts.clustering import founding
from streams.prompts.clustering.policy import Policy

FRUIT = ("apples", "pears", "plums", "figs", "limes", "dates", "kiwis", "grapes", "lemons", "cherries")
PLACES = ("Rome", "Oslo", "Lima", "Cairo", "Quito", "Delhi", "Perth", "Kyiv", "Tunis", "Accra", "Hanoi")
FAMILIES = {
    "sell": "Write a cheerful advertisement of three sentences for fresh {{fruit}} sold at the market of {{place}}.",
    "code": "def price({{fruit}}):  # called by the till in {{place}}\n    return lookup(region, item) * 1.19",
}


def a_set(size: int = 60) -> LabelledSet:
    rows = []
    for number in range(size):
        family = ("sell", "code")[number % 2]
        slots = {"fruit": FRUIT[number * 7 % len(FRUIT)], "place": PLACES[number * 5 % len(PLACES)]}
        text = filled(FAMILIES[family], slots)
        rows.append(Labelled(f"p{number}", text, family, FAMILIES[family], family))
    rows.append(Labelled("odd", "Why is the sky blue over the sea at noon?", None))
    return LabelledSet("tiny", tuple(rows), tuple(str(number // 10) for number in range(len(rows))))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_two_plain_templates_apart(name: str) -> None:
    method, tiny = METHODS[name], a_set()
    scores = [score(tiny.judged, run(tiny.rows).predictions) for run in method.settings.values()]
    assert max(one["1-1"] for one in scores) >= 0.9
    assert all(one["prompts"] == 60 for one in scores)


def test_promptloom_and_lcs_give_every_text_back() -> None:
    tiny = a_set()
    for name in ("promptloom", "LCS"):
        run = METHODS[name].settings[METHODS[name].default]
        assert score(tiny.judged, run(tiny.rows).predictions)["round trip"] == 1.0


def plain_length(first: Sequence[int], second: Sequence[int]) -> int:
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, one in enumerate(first, 1):
        for column, other in enumerate(second, 1):
            best = max(lengths[row - 1][column], lengths[row][column - 1])
            lengths[row][column] = lengths[row - 1][column - 1] + 1 if one == other else best
    return lengths[-1][-1]


def test_the_bit_parallel_subsequence_is_as_long_as_the_table_says() -> None:
    random = Random(3)  # noqa: S311  seeded cases, no secret
    for _ in range(300):
        first, second = ([random.randrange(5) for _ in range(random.randrange(14))] for _ in range(2))
        pairs = common(first, second)
        assert len(pairs) == plain_length(first, second)
        assert all(first[here] == second[there] for here, there in pairs)
        assert pairs == sorted(pairs)
        assert len({here for here, _ in pairs}) == len({there for _, there in pairs}) == len(pairs)


# Sets.


@pytest.fixture(scope="module")
def held_out() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return build()


def test_the_held_out_set_is_the_same_again_and_gives_every_text_back(
    held_out: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    main, oneoffs = held_out
    assert held_out == build()
    assert all(filled(row["template"], row["slots"]) == row["text"] for row in main)
    assert len({row["template_id"] for row in main}) >= 60
    assert {row["variant"] for row in main} == {"short", "mid", "long", "code", "multilingual"}
    assert len({row["id"] for row in [*main, *oneoffs]}) == len(main) + len(oneoffs)


def test_no_template_of_the_held_out_set_is_one_of_the_dataset(
    held_out: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    def words(template: str) -> str:
        return " ".join(re.findall(r"\w+", re.sub(r"\{\{.*?\}\}", " ", template)))

    shipped = {words(row.template or "") for row in load("dataset", Path())[0].rows if row.family}
    assert not shipped & {words(row["template"]) for row in held_out[0]}


def test_the_shipped_set_has_families_variants_and_changes() -> None:
    (dataset,) = load("dataset", Path())
    assert len({row.family for row in dataset.judged}) > 80
    assert len(dataset.changes) == 14
    assert dataset.ignored
    ids = {row.id for row in dataset.rows}
    assert all(change.prompt_id in ids for change in dataset.changes)


def test_a_set_whose_data_is_absent_is_left_out(tmp_path: Path) -> None:
    assert load("promptfamilies", tmp_path) == load("evolution", tmp_path) == load("loghub", tmp_path) == []


def test_streams_are_the_same_rows_in_another_order_or_fewer() -> None:
    tiny = a_set()
    given = stream_of(tiny, "given")
    shuffled, minute = stream_of(tiny, "shuffle 1"), stream_of(tiny, "minute")
    assert given == list(tiny.rows) != shuffled
    assert set(shuffled) == set(minute) == set(given)
    assert shuffled == stream_of(tiny, "shuffle 1") != stream_of(tiny, "shuffle 2")
    assert [set(minute[at : at + 10]) for at in range(0, 60, 10)] == [
        set(given[at : at + 10]) for at in range(0, 60, 10)
    ]
    assert 0 < len(given) - len(stream_of(tiny, "dropped")) < 15


# Runs and report.


def a_method(calls: list[int], files: tuple[str, ...] = ()) -> Method:
    def run(stream: Sequence[Labelled]) -> Outcome:
        calls.append(len(stream))
        return Outcome({row.id: Prediction(row.family, row.template, {}) for row in stream if row.family}, 0.5)

    return Method("Drain3", "a fake under a name that is known", {"only": run}, files)


def test_a_result_is_computed_once_and_again_when_the_data_changes(tmp_path: Path) -> None:
    calls: list[int] = []
    method = a_method(calls)
    first = Runs(tmp_path, lambda _: None).result(method, "only", a_set())
    again = Runs(tmp_path, lambda _: None).result(method, "only", a_set())
    assert (first, calls) == (again, [61])
    Runs(tmp_path, lambda _: None).result(method, "only", a_set(40))
    assert calls == [61, 41]


def a_report(tmp_path: Path) -> report.SetReport:
    runs, method, tiny = Runs(tmp_path, lambda _: None), a_method([]), a_set()
    row = report.Shown("Drain3", runs.best(method, tiny), [runs.result(method, "only", tiny, "shuffle 1")])
    row.survival = runs.survival(method, "only", tiny)
    return report.SetReport("tiny", 61, 2, 1, [row])


def test_the_report_shows_measures_variants_orders_and_survival(tmp_path: Path) -> None:
    text = report.markdown([a_report(tmp_path)])
    assert "## tiny: 61 prompts of 2 families, 1 one-off prompts" in text
    assert "| Drain3 | 1.000 | 1.000 | 1.000 | 1.000 |" in text
    assert "| GA / one-to-one of | code | sell |" in text
    assert "| 1 shuffles, mean / worst |" in text
    assert "survival, dropped" in text


def test_the_picture_is_the_same_again_and_names_the_methods(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        picture.draw([a_report(tmp_path)], tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "Drain3" in drawn
    assert "tiny" in drawn


# Trials.


def test_every_number_of_the_policy_and_the_rooms_is_tried() -> None:
    tried = {(number.room, number.name) for number in sensitivity.numbers()}
    assert {("clustering.policy", "cover_percent"), ("clustering.policy", "founders_min")} <= tried
    assert ("clustering.founding", "HOLDS_PERCENT") in tried
    assert not any(name in {"FORMAT", "version", "calibrated"} for _, name in tried)


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("cover_percent", 80, [40, 100]),
        ("founders_min", 3, [1, 6]),
        ("meaning_min", 0.85, [0.425, 1.0]),
        ("BITS", 6.0, [3.0, 12.0]),
        ("ONE", 1, [2]),
    ],
)
def test_a_number_is_halved_and_doubled_within_what_it_may_be(name: str, value: float, others: list[float]) -> None:
    assert sensitivity.Number("module", name, value).others() == others


def test_a_trial_changes_the_number_for_itself_alone(tmp_path: Path) -> None:
    number = sensitivity.Number("streams.prompts.clustering.policy", "founders_min", Policy().founders_min)
    tiny = a_set()
    plain = sensitivity.trial(tiny, tmp_path, None, 0)
    changed = sensitivity.trial(tiny, tmp_path, number, 1_000)
    assert plain["clusters"] == 2
    assert changed["clusters"] == 0, "no cluster is founded by so many"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_trial_of_a_constant_leaves_this_process_as_it_was(tmp_path: Path) -> None:
    before = founding.HOLDS_PERCENT
    number = sensitivity.Number("streams.prompts.clustering.founding", "HOLDS_PERCENT", before)
    sensitivity.trial(a_set(), tmp_path, number, 100)
    assert before == founding.HOLDS_PERCENT
