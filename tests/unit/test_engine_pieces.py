"""A record that carries several things: one at fault costs only itself, whatever happens around it.

A record here is a JSON list of numbers; a handler adds each to a row and copies it. Negative ones are poison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RecordTooLarge, ServiceUnavailable
from streams.engine.exactly_once.unit import UnitOfWork, current_unit
from streams.engine.ports import NullObserver, Piece, Record, Unit
from streams.engine.tables import ChangelogTable
from tests.session_run import DEAD_LETTERS, PARTITION, TOPIC, Run

Handle = Callable[[Unit], Awaitable[None]]


class CountingObserver(NullObserver):
    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.letters: Counter[tuple[str, str, str]] = Counter()

    def count(self, name: str, amount: float, labels: Mapping[str, str]) -> None:  # noqa: ARG002  the port's
        self.counted[name] += int(amount)

    def dead_lettered(self, stage: str, kind: str, topic: str) -> None:
        self.letters[stage, kind, topic] += 1


def numbers(record: Record) -> list[int]:
    found: list[int] = orjson.loads(record.value or b"")
    return found


def pieces(record: Record) -> Sequence[Piece]:
    return [
        Piece(replace(record, value=orjson.dumps([number])), replace(record, topic="origin", value=b"%d" % number))
        for number in numbers(record)
    ]


def adding(table: ChangelogTable, service: Callable[[], bool] = lambda: True) -> Handle:
    """Return a handler; `service` tells, each time it is asked, whether it answers."""

    async def add(unit: Unit) -> None:
        for record in unit.records:
            for number in numbers(record):
                total = int(table.get("total") or b"0") + abs(number)
                table.put("total", b"%d" % total)
                unit.send("out", b"%d" % number, partition=0)
                unit.count("numbers")
                if number < 0:
                    raise ValueError("negative")
        if not service():
            raise ServiceUnavailable("asking: no answer")

    return add


def a_table() -> ChangelogTable:
    return ChangelogTable("totals", TOPIC, "app-totals-changelog")


frames_of_numbers = st.lists(
    st.lists(st.integers(1, 99).flatmap(lambda n: st.sampled_from((n, n, n, -n))), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(frames=frames_of_numbers, unit_records_max=st.integers(1, 6), answers=st.lists(st.booleans(), max_size=4))
async def test_poison_costs_only_itself_however_the_stream_is_cut_and_whatever_fails_beside_it(
    frames: list[list[int]], unit_records_max: int, answers: list[bool]
) -> None:
    table, observer, remaining = a_table(), CountingObserver(), list(answers)
    handler = adding(table, lambda: remaining.pop() if remaining else True)
    values = [orjson.dumps(frame) for frame in frames]
    run = Run(handler, values, split=pieces, unit_records_max=unit_records_max, observer=observer)
    await run.through(len(frames))
    flat = [number for frame in frames for number in frame]
    good = [number for number in flat if number > 0]
    assert run.values("out") == [b"%d" % number for number in good]
    assert run.values("dead-letters") == [b"%d" % number for number in flat if number < 0]
    assert int(dict(table.items(PARTITION)).get("total", b"0")) == sum(good)
    assert observer.counted["numbers"] + observer.letters["stage", "ValueError", "origin"] == len(flat)
    assert_only_whole_records_were_committed(run, frames)


def assert_only_whole_records_were_committed(run: Run, frames: list[list[int]]) -> None:
    for position, sent in run.producer.committed:
        published = [outgoing for outgoing in run.producer.sent[:sent] if outgoing.topic in ("out", "dead-letters")]
        assert len(published) == sum(map(len, frames[:position])), f"a commit at {position} fell inside a record"


@pytest.mark.parametrize(
    "frame", [[-1], [-1, -2], [-1, -2, -3, -4, -5], [1, -2, 3, -4, 5], [-1, 2], [1, -2]], ids=lambda frame: f"{frame}"
)
async def test_a_record_with_poison_is_published_as_one_unit(frame: list[int]) -> None:
    table = a_table()
    run = Run(adding(table), [orjson.dumps(frame)], split=pieces)
    await run.through(1)
    assert len(run.producer.committed) == 1
    assert run.values("dead-letters") == [b"%d" % number for number in frame if number < 0]
    assert run.values("out") == [b"%d" % number for number in frame if number > 0]
    # The row is written by several pieces, and goes to the changelog once.
    assert len(run.values(table.changelog)) == (1 if any(number > 0 for number in frame) else 0)


async def test_a_piece_is_refused_with_the_error_of_its_own_and_the_place_it_came_from() -> None:
    async def handle(unit: Unit) -> None:
        found = [number for record in unit.records for number in numbers(record)]
        if -1 in found:
            raise ValueError("minus one")
        if -2 in found:
            raise RecordTooLarge("minus two")

    run = Run(handle, [b"[-2, 5, -1]"], split=pieces)
    await run.through(1)
    letters = [dict(sent.headers) for sent in run.producer.sent if sent.topic == "dead-letters"]
    assert [letter["__errors.exception"] for letter in letters] == [b"RecordTooLarge", b"ValueError"]
    assert {letter["__errors.topic"] for letter in letters} == {b"origin"}


async def test_what_only_fails_together_passes_in_pieces() -> None:
    async def handle(unit: Unit) -> None:
        found = [number for record in unit.records for number in numbers(record)]
        if len(found) > 2:
            raise RecordTooLarge("three numbers take too much room")
        for number in found:
            unit.send("out", b"%d" % number, partition=0)

    run = Run(handle, [b"[1, 2, 3, 4, 5]", b"[6]"], split=pieces)
    await run.through(2)
    assert run.values("out") == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert run.values("dead-letters") == []


@pytest.mark.parametrize("split", [lambda _: [], lambda _: 1 // 0], ids=["no pieces", "a split that fails"])
async def test_a_record_that_cannot_be_cut_is_refused_whole(split: Callable[[Record], Sequence[Piece]]) -> None:
    run = Run(adding(a_table()), [b"[1, -2]", b"[3]"], split=split)
    await run.through(2)
    assert (run.values("dead-letters"), run.values("out")) == ([b"[1, -2]"], [b"3"])


async def test_a_session_that_closes_between_two_pieces_leaves_nothing_of_the_record() -> None:
    table = a_table()

    async def handle(unit: Unit) -> None:
        await adding(table)(unit)
        if numbers(unit.records[-1]) == [3]:
            raise ServiceUnavailable("asking: no answer")

    run = Run(handle, [b"[1]", b"[2, -2, 3]"], split=pieces, unit_records_max=1)
    await run.until(lambda: bool(run.session.held_reason))
    before = run.view.generation(PARTITION)
    await run.session.close()
    # The pieces that passed changed what the handler keeps beside its rows; it must hear that they were undone.
    assert run.view.generation(PARTITION) > before
    assert (run.session.clean, run.session.position, run.producer.committed) == (True, 1, [(1, 2)])
    assert dict(table.items(PARTITION)) == {"total": b"1"}


def test_a_part_sees_what_the_unit_around_it_wrote_and_is_forgotten_alone() -> None:
    table = a_table()
    table.replace(PARTITION, {"a": b"1", "b": b"1"})
    whole = UnitOfWork(TOPIC, PARTITION, [], DEAD_LETTERS)
    for value, passes in ((b"2", True), (b"3", False)):
        part = whole.part([])
        token = current_unit.set(part)
        table.put("a", value)
        table.put(value.decode(), b"new")
        table.delete("b")
        seen = dict(table.items(PARTITION))
        current_unit.reset(token)
        assert seen == {"a": value, "2": b"new", value.decode(): b"new"}
        if passes:
            whole.take(part)
        else:
            part.undo()
    whole.complete()
    assert dict(table.items(PARTITION)) == {"a": b"2", "2": b"new"}
