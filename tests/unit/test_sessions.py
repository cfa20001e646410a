"""What all sessions of a worker leave behind for the next assignment, without a broker."""

from __future__ import annotations

import asyncio

from streams.engine.exactly_once.sessions import Sessions
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.exactly_once.truth import Position
from streams.engine.ports import NullObserver, Unit
from streams.engine.tables import ChangelogTable, View
from tests.session_run import DEAD_LETTERS, PARTITION, TOPIC, Run
from tests.unit.test_store import Changelogs

SOURCE = TOPIC, PARTITION


class LagObserver(NullObserver):
    """Keeps what was last said of each partition."""

    def __init__(self) -> None:
        self.lags: dict[tuple[str, int], int] = {}

    def lag(self, topic: str, partition: int, records: int) -> None:
        self.lags[topic, partition] = records


class Worker:
    """The sessions of a worker with one stage and one table; what it restores from is an empty changelog."""

    def __init__(self) -> None:
        self.table = ChangelogTable("totals", TOPIC, "app-totals-changelog")
        self.view = View()
        self.observer = LagObserver()
        self.sessions = Sessions(
            {TOPIC: Stage("stage", TOPIC, leave)},
            [self.table],
            {TOPIC: self.view},
            Surroundings("app", 8, 0.0, 0.01, DEAD_LETTERS, self.observer),
            {},
            lambda _: None,
        )

    async def restore(self, positions: dict[tuple[str, int], Position]) -> None:
        await self.sessions._restore(Changelogs([self.table], {}), positions)  # type: ignore[arg-type]


async def leave(unit: Unit) -> None: ...


async def test_a_close_cancelled_on_its_way_does_not_pass_on_rows_that_were_never_committed() -> None:
    done = asyncio.Event()

    async def ignore_the_end(unit: Unit) -> None:
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue

    worker, run = Worker(), Run(ignore_the_end, [b"1"])
    await worker.restore({SOURCE: Position(0, committed=True)})
    worker.sessions._live = {SOURCE: run.session}
    worker.table.replace(PARTITION, {"total": b"published, not committed"})
    closing = asyncio.create_task(worker.sessions.close())
    await run.until(lambda: not run.session.working)
    closing.cancel()
    await asyncio.wait({closing})
    await worker.restore({SOURCE: Position(0, committed=True)})
    done.set()
    assert worker.table.rows(PARTITION) == {}
    await run.session.close()


async def test_rows_of_a_partition_in_doubt_that_another_worker_holds_now_are_let_go() -> None:
    worker = Worker()
    worker.table.replace(PARTITION, {"total": b"1"})  # as after a doubt: no position is known for them
    before = worker.view.generation(PARTITION)
    await worker.restore({(TOPIC, PARTITION + 1): Position(0, committed=True)})
    assert set(worker.table.partitions) == {PARTITION + 1}
    assert worker.view.generation(PARTITION) != before


async def test_of_a_partition_that_is_let_go_no_lag_is_reported_any_more() -> None:
    worker, run = Worker(), Run(leave, [b"1"])
    worker.sessions._live = {SOURCE: run.session}
    worker.observer.lag(*SOURCE, 17)
    await worker.sessions.close()
    assert worker.observer.lags == {SOURCE: 0}
