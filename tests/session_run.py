"""A session over a list of records, without a broker: what it sends and what it commits, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import KafkaError

from streams.engine.dead_letter import DeadLetters
from streams.engine.exactly_once.inbox import Batch
from streams.engine.exactly_once.session import Session
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.exactly_once.unit import Outgoing
from streams.engine.ports import NullObserver, Observer, Record, Split, Unit
from streams.engine.store import NoStore, Store
from streams.engine.tables import View
from tests.fakes import a_record

TOPIC, PARTITION = "words", 3
DEAD_LETTERS = DeadLetters("dead-letters", 2)


class RecordingProducer:
    """Stands where the transaction does: keeps what was sent and what was committed, in order."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.committed: list[tuple[int, int]] = []  # position, records sent until then
        self.fails = False

    async def send(self, records: list[Outgoing]) -> None:
        self.sent += records

    async def commit(self, _source: tuple[str, int], position: int, _group: str) -> dict[tuple[str, int], int]:
        if self.fails:
            raise KafkaError("no answer")
        self.committed.append((position, len(self.sent)))
        return {}

    async def stop(self) -> None: ...


class Run:
    """A session over a list of records; it starts when there is a loop to turn."""

    def __init__(
        self,
        handler: Callable[[Unit], Awaitable[None]],
        values: Sequence[bytes],
        *,
        split: Split | None = None,
        unit_records_max: int = 8,
        stage_records_max: int | None = None,
        observer: Observer | None = None,
        producer: RecordingProducer | None = None,
        start: int = 0,
        commit_interval_s: float = 0.01,
        store: Store | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self.producer = producer or RecordingProducer()
        self.failures: list[Exception] = []
        self.view = View()
        around = Surroundings(
            group="app",
            unit_records_max=unit_records_max,
            unit_wait_s=0.0,
            commit_interval_s=commit_interval_s,
            dead_letters=DEAD_LETTERS,
            observer=observer or NullObserver(),
            hold_s_min=0.001,
            store=store or NoStore(),
            turn=turn or asyncio.Lock(),
        )
        self.session = Session(
            Stage("stage", TOPIC, handler, split, stage_records_max),
            PARTITION,
            start,
            self.producer,  # type: ignore[arg-type]
            self.view,
            around,
            lambda _, error: self.failures.append(error),
        )
        records = [a_record(value, topic=TOPIC, offset=offset) for offset, value in enumerate(values)]
        self.session.push(a_batch(start, records[start:], len(records)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  what is waited for lives in the code under test
                await asyncio.sleep(0.001)

    async def through(self, position: int) -> None:
        """Wait until everything up to a position is committed, and close."""
        await self.until(lambda: bool(self.producer.committed) and self.producer.committed[-1][0] == position)
        await self.session.close()

    def values(self, topic: str) -> list[bytes | None]:
        return [sent.value for sent in self.producer.sent if sent.topic == topic]


def a_batch(start: int, records: list[Record], end: int | None = None) -> Batch:
    return Batch(TOPIC, PARTITION, 1, start, end if end is not None else start + len(records), tuple(records))
