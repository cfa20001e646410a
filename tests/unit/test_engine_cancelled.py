"""Tasks cancelled at every moment: nothing is applied by half, and the next owner of the partition ends right.

A ticker counts the turns of the event loop and cancels one task of the session at a chosen one, then at the next, and
so on, until the work is done before it strikes. What the broker holds then is all that a successor knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from streams.engine.exactly_once.unit import Outgoing
from streams.engine.ports import Unit
from streams.engine.tables import ChangelogTable
from tests.session_run import PARTITION, TOPIC, RecordingProducer, Run
from tests.unit.test_engine_pieces import adding, pieces

FRAMES = [[1], [2, -3, 4], [5], [-6, 7], [-8, -9], [10, 11, 12]]
FLAT = [number for frame in FRAMES for number in frame]
TURNS_MAX = 2_000


class Broker:
    """What is committed of one source partition."""

    def __init__(self) -> None:
        self.position = 0
        self.records: list[Outgoing] = []

    def values(self, topic: str) -> list[int]:
        return [int(record.value or b"") for record in self.records if record.topic == topic]

    def rows(self, table: ChangelogTable) -> dict[str, bytes]:
        written = [record for record in self.records if record.topic == table.changelog]
        return {(record.key or b"").decode(): record.value for record in written if record.value is not None}


class Transaction(RecordingProducer):
    """A transaction with a moment to be cancelled before and after each thing it does."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker
        self._open: list[Outgoing] = []

    async def send(self, records: list[Outgoing]) -> None:
        await asyncio.sleep(0)
        for record in records:
            self._open.append(record)
            await asyncio.sleep(0)

    async def commit(self, source: tuple[str, int], position: int, group: str) -> dict[tuple[str, int], int]:
        await asyncio.sleep(0)
        self._broker.records += self._open
        self._broker.position = position
        self._open = []
        await asyncio.sleep(0)  # committed, but nobody here knows
        return await super().commit(source, position, group)


def owner(broker: Broker) -> tuple[Run, ChangelogTable]:
    """Start a session as a worker does: from what is committed."""
    table = ChangelogTable("totals", TOPIC, "app-totals-changelog")
    table.replace(PARTITION, broker.rows(table))
    add = adding(table)

    async def add_slowly(unit: Unit) -> None:
        await asyncio.sleep(0)
        await add(unit)
        await asyncio.sleep(0)

    run = Run(
        add_slowly,
        [orjson.dumps(frame) for frame in FRAMES],
        split=pieces,
        unit_records_max=4,
        producer=Transaction(broker),
        start=broker.position,
        commit_interval_s=0.0,
    )
    return run, table


async def cancelled_at(turn: int, found: Callable[[Run], asyncio.Task[Any] | None]) -> bool:
    """Cancel a task at a turn of the loop, then let a successor finish; return whether there was one to cancel."""
    broker = Broker()
    run, table = owner(broker)
    for _ in range(turn):
        await asyncio.sleep(0)
    victim = found(run)
    if victim is not None:
        victim.cancel()
    session = run.session._task
    for _ in range(TURNS_MAX):
        if session.done() or (broker.position == len(FRAMES) and not session.cancelling()):
            break
        await asyncio.sleep(0.0005 if run.session.held_reason else 0)
    await asyncio.sleep(0)  # for who waits for the end of the session
    # What the tables hold is the state at a position between two records, whoever asks and whenever.
    applied = [number for frame in FRAMES[: run.session.position] for number in frame if number > 0]
    assert int(table.rows(PARTITION).get("total", b"0")) == sum(applied)
    await run.session.close()
    if session.cancelled():  # then it starts over
        assert (run.session.clean, len(run.failures)) == (False, 1)
    successor, table = owner(broker)
    if broker.position < len(FRAMES):
        await successor.until(lambda: broker.position == len(FRAMES))
    await successor.session.close()
    assert broker.values("out") == [number for number in FLAT if number > 0]
    assert broker.values("dead-letters") == [number for number in FLAT if number < 0]
    assert table.rows(PARTITION) == broker.rows(table) == {"total": b"%d" % sum(n for n in FLAT if n > 0)}
    return victim is not None


def of_session(run: Run) -> asyncio.Task[Any] | None:
    return None if run.session._task.done() else run.session._task


def of_handler(_: Run) -> asyncio.Task[Any] | None:
    coroutines = {task: task.get_coro() for task in asyncio.all_tasks()}
    return next((task for task, coroutine in coroutines.items() if coroutine.__qualname__ == "_call"), None)  # type: ignore[union-attr]


@pytest.mark.parametrize("found", [of_session, of_handler])
async def test_a_task_cancelled_at_any_moment_leaves_nothing_half_applied(
    found: Callable[[Run], asyncio.Task[Any] | None],
) -> None:
    struck = 0
    for turn in range(200):
        struck += await cancelled_at(turn, found)
    assert struck > 30
