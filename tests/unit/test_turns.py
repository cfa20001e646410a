"""Handlers of many partitions start one a turn of the loop, so that nothing waits for all of them together."""

from __future__ import annotations

import asyncio
from collections import Counter

from streams.engine.ports import Unit
from tests.session_run import Run

PARTITIONS = 8
UNITS = 5


async def test_no_two_handlers_start_in_the_same_turn_of_the_loop() -> None:
    turns = 0
    started: Counter[int] = Counter()
    ended = asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while not ended.is_set():
            turns += 1
            await asyncio.sleep(0)

    async def handle(unit: Unit) -> None:
        started[turns] += 1

    counting = asyncio.create_task(count_turns())
    turn = asyncio.Lock()
    runs = [Run(handle, [b"x"] * UNITS, unit_records_max=1, turn=turn) for _ in range(PARTITIONS)]
    for run in runs:
        await run.until(lambda run=run: run.session.position == UNITS)  # type: ignore[misc]
    for run in runs:
        await run.session.close()
    ended.set()
    await counting
    assert started.total() == PARTITIONS * UNITS
    assert set(started.values()) == {1}
