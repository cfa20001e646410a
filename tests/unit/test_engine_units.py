"""Units, tables, inboxes and dead letters of the engine, and how a session bisects, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidPrompt, RecordTooLarge, ServiceUnavailable, StateIncompatible
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.exactly_once.inbox import Inbox, PositionGap
from streams.engine.exactly_once.unit import HandlerMisuse, Outgoing, UnitOfWork, current_unit
from streams.engine.limits import BATCH_BYTES_MAX, INBOX_UNITS_MAX, UNIT_BYTES_MAX
from streams.engine.ports import Record, Unit
from streams.engine.tables import ChangelogTable
from tests.fakes import a_record
from tests.session_run import DEAD_LETTERS, Run, a_batch


@contextmanager
def a_unit(table: ChangelogTable, partition: int = 3) -> Iterator[UnitOfWork]:
    unit = UnitOfWork(table.owner, partition, [], DEAD_LETTERS)
    token = current_unit.set(unit)
    try:
        yield unit
    finally:
        current_unit.reset(token)


def a_table() -> ChangelogTable:
    return ChangelogTable("counts", "words", "app-counts-changelog")


def test_a_unit_sees_its_own_rows_and_others_see_them_when_it_completes() -> None:
    table = a_table()
    table.replace(3, {"a": b"1", "b": b"1"})
    with a_unit(table) as unit:
        table.put("a", b"2")
        table.delete("b")
        table.put("c", b"1")
        assert (table.get("a"), table.get("b"), list(table.items(3))) == (b"2", None, [("a", b"2"), ("c", b"1")])
    assert (table.get("a"), table.get("b")) == (b"1", b"1")
    unit.complete()
    assert dict(table.items(3)) == {"a": b"2", "c": b"1"}


def test_an_undone_unit_leaves_no_trace() -> None:
    table = a_table()
    table.replace(3, {"a": b"1"})
    with a_unit(table) as unit:
        table.put("a", b"2")
        unit.undo()
    assert dict(table.items(3)) == {"a": b"1"}


def test_a_row_written_several_times_goes_to_the_changelog_once() -> None:
    table = a_table()
    with a_unit(table) as unit:
        for value in (b"1", b"2", b"3"):
            table.put("a", value)
    assert unit.outgoing(8) == [Outgoing("app-counts-changelog", 3, b"a", b"3", (("format", b"1"), ("position", b"8")))]


def test_a_row_written_back_as_it_was_does_not_go_to_the_changelog() -> None:
    table = a_table()
    table.replace(3, {"a": b"1"})
    with a_unit(table) as unit:
        table.put("a", b"2")
        table.put("a", b"1")
        table.delete("never there")
    assert unit.outgoing(8) == []


def test_rows_of_another_partition_are_another_tenant() -> None:
    table = a_table()
    table.replace(4, {"a": b"theirs"})
    with a_unit(table, partition=3):
        assert table.get("a") is None
        assert list(table.items(4)) == [("a", b"theirs")]
    assert table.get("a") == b"theirs"


def test_a_table_is_written_by_units_of_its_owner_only() -> None:
    table = a_table()
    with pytest.raises(HandlerMisuse, match="outside a unit"):
        table.put("a", b"1")
    other = ChangelogTable("other", "prompts", "app-other-changelog")
    with a_unit(other), pytest.raises(HandlerMisuse, match="belongs to the agent of words"):
        table.put("a", b"1")


def test_a_task_that_outlives_its_unit_cannot_add_to_it() -> None:
    with a_unit(a_table()) as unit:
        unit.undo()
        with pytest.raises(HandlerMisuse, match="after the unit was undone"):
            unit.send("out", b"", partition=0)


def test_a_record_that_no_topic_would_take_is_refused_in_the_unit() -> None:
    with a_unit(a_table()) as unit:
        with pytest.raises(RecordTooLarge, match="a record to out"):
            unit.send("out", b"x" * RECORD_BYTES_MAX, partition=0)
        with pytest.raises(RecordTooLarge, match="a row of table counts"):
            unit.write(a_table(), "key", b"x" * RECORD_BYTES_MAX)


def test_a_dead_letter_keeps_the_record_and_says_why() -> None:
    record = a_record(b"\xff", topic="prompts", partition=3, offset=7, key=b"k", headers=(("ce_id", b"1"),))
    with a_unit(a_table()) as unit:
        unit.dead_letter(record, InvalidPrompt("text is missing"), stage="moderation")
    (letter,) = unit.outgoing(8)
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("dead-letters", 1, b"k", b"\xff")
    assert dict(letter.headers) == {
        "ce_id": b"1",
        "__errors.stage": b"moderation",
        "__errors.exception": b"InvalidPrompt",
        "__errors.message": b"text is missing",
        "__errors.topic": b"prompts",
        "__errors.partition": b"3",
        "__errors.offset": b"7",
    }


def test_a_header_without_a_value_is_kept_as_it_is() -> None:
    record = a_record(headers=(("trace", None),))
    with a_unit(a_table()) as unit:
        unit.dead_letter(record, InvalidPrompt("text is missing"), stage="moderation")
    (letter,) = unit.outgoing(8)
    assert letter.headers[0] == ("trace", None)
    assert letter.size_bytes > 0


def test_a_dead_letter_does_not_quote_what_it_could_not_handle() -> None:
    try:
        float("my secret prompt")
    except ValueError as error:
        letter = DEAD_LETTERS.letter(a_record(), error, "clustering")
    assert b"secret" not in (dict(letter.headers)["__errors.message"] or b"")


def test_a_dead_letter_that_fails_again_has_one_set_of_error_headers() -> None:
    first = DEAD_LETTERS.letter(a_record(), InvalidPrompt("first"), "moderation")
    again = DEAD_LETTERS.letter(a_record(headers=first.headers), InvalidPrompt("second"), "moderation")
    assert len(again.headers) == len(first.headers)
    assert dict(again.headers)["__errors.message"] == b"second"


@pytest.mark.parametrize(
    "record",
    [
        a_record(b"v" * BATCH_BYTES_MAX),
        a_record(b"v", key=b"k" * BATCH_BYTES_MAX),
        a_record(b"v", headers=(("h", b"h" * BATCH_BYTES_MAX),)),
    ],
    ids=["value", "key", "headers"],
)
def test_a_dead_letter_always_fits(record: Record) -> None:
    letter = DEAD_LETTERS.letter(record, InvalidPrompt("x" * 5_000), "moderation")
    size = Outgoing(letter.topic, letter.partition, letter.key, letter.value, letter.headers).size_bytes
    assert size <= RECORD_BYTES_MAX


@given(sizes=st.lists(st.integers(0, UNIT_BYTES_MAX * 2), max_size=12), cut=st.integers(0, 12))
def test_an_inbox_gives_back_every_record_once_in_order_in_bounded_units(sizes: list[int], cut: int) -> None:
    inbox = Inbox(0, unit_records_max=4)
    records = [a_record(bytes(size), offset=offset) for offset, size in enumerate(sizes)]
    first, second = records[:cut], records[cut:]
    inbox.push(a_batch(0, first))
    inbox.push(a_batch(len(first), second, end=len(records) + 1))  # a transaction marker follows
    taken: list[Record] = []
    position = 0
    while not inbox.empty:
        unit, position = inbox.take()
        assert 1 <= len(unit) <= 4
        assert len(unit) == 1 or sum(len(record.value or b"") for record in unit) <= UNIT_BYTES_MAX
        taken += unit
    assert taken == records
    assert position == (len(records) + 1 if records else 0)
    assert not inbox.full


def test_an_inbox_notices_a_gap_and_a_repeat() -> None:
    for start in (0, 2):
        inbox = Inbox(0, unit_records_max=4)
        inbox.push(a_batch(0, [a_record()]))
        with pytest.raises(PositionGap):
            inbox.push(a_batch(start, [a_record()]))


def test_an_inbox_asks_for_a_pause_when_enough_waits() -> None:
    inbox = Inbox(0, unit_records_max=4)
    inbox.push(a_batch(0, [a_record()] * (4 * INBOX_UNITS_MAX - 1)))
    assert not inbox.full
    inbox.push(a_batch(inbox.end, [a_record()]))
    assert inbox.full
    inbox.take()
    assert not inbox.full


async def copy(unit: Unit) -> None:
    for record in unit.records:
        unit.send("out", record.value, partition=unit.partition)
        if record.value == b"poison":
            raise ValueError("cannot read it")


@pytest.mark.parametrize("poisoned", [set(), {0}, {7}, {3, 4}, set(range(8))], ids=str)
async def test_poison_is_dead_lettered_alone_and_everything_else_passes(poisoned: set[int]) -> None:
    values = [b"poison" if offset in poisoned else b"%d" % offset for offset in range(8)]
    run = Run(copy, values)
    await run.until(lambda: bool(run.producer.committed) and run.producer.committed[-1] == (8, 8))
    await run.session.close()
    assert run.values("out") == [value for value in values if value != b"poison"]
    assert run.values("dead-letters") == [b"poison"] * len(poisoned)
    assert run.session.clean


async def test_a_failing_service_holds_the_partition_and_refuses_no_record() -> None:
    attempts = 0

    async def sometimes(unit: Unit) -> None:
        nonlocal attempts
        attempts += 1
        await copy(unit)
        if attempts < 3:
            raise ServiceUnavailable("asking the gateway: no answer")

    run = Run(sometimes, [b"1", b"2"])
    await run.until(lambda: run.session.held_reason == "ServiceUnavailable: asking the gateway: no answer")
    assert run.producer.sent == []
    await run.until(lambda: run.session.position == 2)
    await run.session.close()
    assert run.session.held_reason == ""
    assert (run.values("out"), run.values("dead-letters")) == ([b"1", b"2"], [])
    assert run.view.generation(3) == 2  # undone twice


async def test_closing_a_session_cancels_its_handler_and_undoes_the_unit() -> None:
    started = asyncio.Event()

    async def slow(unit: Unit) -> None:
        await copy(unit)
        started.set()
        await asyncio.Event().wait()

    run = Run(slow, [b"1"])
    await started.wait()
    await run.session.close()
    assert (run.producer.sent, run.producer.committed) == ([], [])
    assert (run.session.clean, run.session.position) == (True, 0)


async def test_units_before_a_slow_one_are_committed_beside_it() -> None:
    async def slow_second(unit: Unit) -> None:
        await copy(unit)
        if unit.records[0].offset:
            await asyncio.Event().wait()

    run = Run(slow_second, [b"x" * UNIT_BYTES_MAX, b"2"])
    await run.until(lambda: run.producer.committed == [(1, 1)])
    await run.session.close()
    assert run.session.position == 1


async def test_a_commit_that_fails_beside_a_handler_is_no_fault_of_its_records() -> None:
    async def slow_second(unit: Unit) -> None:
        await copy(unit)
        if unit.records[0].offset:
            await asyncio.Event().wait()

    run = Run(slow_second, [b"x" * UNIT_BYTES_MAX, b"2"])
    run.producer.fails = True
    await run.until(lambda: bool(run.failures))
    await run.session.close()
    assert (run.values("dead-letters"), run.session.clean, run.session.position) == ([], False, 1)


async def test_a_handler_cancelled_from_within_is_run_again() -> None:
    attempts = 0

    async def cancelled_once(unit: Unit) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncio.CancelledError
        await copy(unit)

    run = Run(cancelled_once, [b"1"])
    await run.until(lambda: run.session.position == 1)
    await run.session.close()
    assert (run.values("out"), run.values("dead-letters")) == ([b"1"], [])


async def test_state_of_another_format_stops_the_worker_instead_of_refusing_every_record() -> None:
    async def misread(unit: Unit) -> None:
        raise StateIncompatible("row of another version")

    run = Run(misread, [b"1", b"2"])
    await run.until(lambda: bool(run.failures))
    assert isinstance(run.failures[0], StateIncompatible)
    assert run.producer.sent == []
    await run.session.close()


@pytest.mark.parametrize(("of_the_stage", "largest"), [(None, 4), (2, 2), (9, 4)])
async def test_a_stage_may_ask_for_smaller_units_than_others(of_the_stage: int | None, largest: int) -> None:
    sizes: list[int] = []

    async def handle(unit: Unit) -> None:
        sizes.append(len(unit.records))

    run = Run(handle, [b""] * 12, unit_records_max=4, stage_records_max=of_the_stage)
    await run.through(12)
    assert max(sizes) == largest
