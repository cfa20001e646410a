"""Carry topics into a store outside Kafka, from where the store says, until told to stop.

Rules
  * The store keeps the offsets, so that what is written and how far it was written cannot disagree. No
    consumer group: partitions are assigned by hand, and reading starts where the store says.
  * A batch is what has come since the last one, up to a number of records and bytes. Nobody waits for a batch
    to fill: while one is written the next one gathers, so batches grow with the traffic by themselves.
  * The store away (ServiceError): the batch is tried again, with growing and jittered pauses, for ever;
    nothing is skipped. ServiceRefused and whatever is not a known error end the sink instead.
  * A record at fault (InputError, from decoding or from the store) goes to `dead-letters` before its offset
    moves; a batch the store refuses is halved until that record stands alone.

Intuition: a ferry without a timetable. It leaves with whoever is on the pier, comes back, and leaves again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from aiokafka import TopicPartition

from schemas.errors import InputError, PromptloomError, SchemaUnavailable, ServiceError, ServiceRefused
from schemas.limits import MIB
from streams.engine import frames
from streams.engine.limits import HOLD_SECONDS_MAX, HOLD_SECONDS_MIN
from streams.engine.ports import Observer, Record, WriterSchemas

log = logging.getLogger(__name__)

# One transaction of a sink. 64 frames hold at most 16,384 prompts; at 8 MiB they are bounded in memory too, and a
# store that takes half a second for a batch still stops within its grace period.
BATCH_RECORDS_MAX = 64
BATCH_BYTES_MAX = 8 * MIB
POLL_MS_MAX = 200  # how long a stop may go unnoticed while nothing comes
TOPICS_POLL_S = 1.0

Place = tuple[str, int]
Move = tuple[int | None, int]
Item = TypeVar("Item")
Stored = TypeVar("Stored", contravariant=True)  # noqa: PLC0105  the suffix would say it twice


class Store(Protocol[Stored]):
    """A database outside Kafka, with the offsets of one sink in it.

    `positions` is called at the start. `write` is called with the items of consecutive records, in the order
    of their partitions, and is called again with the same ones after a ServiceError, until it returns.
    """

    name: str

    async def positions(self) -> Mapping[Place, int]:
        """Return the next offset of each place that was ever written from."""

    async def write(self, batch: Sequence[Stored], moves: Mapping[Place, Move]) -> Mapping[str, int]:
        """Write the items and move the offsets; return how many rows of which table."""


class SinkObserver(Observer, Protocol):
    """What a sink tells beyond what a stage does."""

    def rows_written(self, sink: str, table: str, rows: int) -> None:
        """A batch was committed with so many rows of a table."""

    def landed(self, sink: str, seconds: float) -> None:
        """A prompt was committed this long after it was received in `prompts`."""

    def behind(self, sink: str, topic: str, partition: int, records: int) -> None:
        """So many records of a partition are readable but not written; two sinks read one topic at two paces."""


class Consumer(Protocol):
    """The part of aiokafka's consumer that is used; reads committed records, without a group."""

    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]: ...
    async def position(self, partition: TopicPartition) -> int: ...
    def last_stable_offset(self, partition: TopicPartition) -> int | None: ...


# Returns how many partitions those of the named topics have that exist.
Partitions = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]


class OffsetsLost(PromptloomError):
    """The store's offsets and the topics do not fit together."""


class Stopped(Exception):  # control flow of this module, never seen outside
    """The sink was told to stop while it waited for the store."""


class Sink(Generic[Item]):
    """One store and the topics it takes."""

    def __init__(
        self,
        topics: Sequence[str],
        decode: Callable[[Record], Item],
        store: Store[Item],
        consumer: Consumer,
        *,
        partitions: Partitions,
        dead_letter: Callable[[Record, Exception, str], Awaitable[None]],
        schemas: WriterSchemas,
        observer: SinkObserver,
        stop: asyncio.Event,
        received_at_ms: Callable[[Item], Iterable[int]],
        skip_expired: bool = False,
        hold_seconds_min: float = HOLD_SECONDS_MIN,
    ) -> None:
        self._topics = topics
        self._decode = decode
        self._store = store
        self._consumer = consumer
        self._partitions = partitions
        self._dead_letter = dead_letter
        self._schemas = schemas
        self._observer = observer
        self._received_at_ms = received_at_ms
        self._skip_expired = skip_expired
        self._hold_seconds_min = hold_seconds_min
        self._known: dict[Place, int | None] = {}  # the offsets in the store; None = no row yet
        self._stop = stop
        self.name = f"sink-{store.name}"
        self.held_reason = ""  # why nothing moves at the moment; '' = it does

    async def run(self) -> None:
        """Carry records until `stop` is set; the write under way is finished first."""
        try:
            places = await self._places()
            await self._seek(places)
            log.info("sink started", extra={"sink": self.name, "partitions": len(places)})
            while not self._stop.is_set():
                arrived = await self._consumer.getmany(timeout_ms=POLL_MS_MAX, max_records=BATCH_RECORDS_MAX)
                for batch in _cut(_records(arrived)):
                    await self._carry(batch)
                await self._tell_lag(arrived)
        except Stopped:
            log.info("sink stopped while it waited; nothing of the batch is written", extra={"sink": self.name})

    async def _places(self) -> list[TopicPartition]:
        """Return all partitions of the topics, waiting until the topics exist."""
        while True:
            existing = await self._persist(lambda: self._partitions(self._topics))
            missing = sorted(set(self._topics) - set(existing))
            if not missing:
                break
            self.held_reason = "topics are missing: " + ", ".join(missing)
            log.warning("waiting for topics", extra={"sink": self.name, "missing": missing})
            await self._pause(TOPICS_POLL_S)
        self.held_reason = ""
        return [TopicPartition(topic, number) for topic in self._topics for number in range(existing[topic])]

    async def _seek(self, places: list[TopicPartition]) -> None:
        """Start where the store says, or at the beginning of what it never wrote from."""
        stored = await self._persist(self._store.positions)
        self._consumer.assign(places)
        first = await self._consumer.beginning_offsets(places)
        end = await self._consumer.end_offsets(places)
        for place in places:
            known = stored.get((place.topic, place.partition))
            if known is not None and known > end[place]:
                raise OffsetsLost(
                    f"starting {self.name}: it is at offset {known} of {place.topic}/{place.partition}, "
                    f"which ends at {end[place]}: the topic was made anew",
                    hint="give the new topics a new database, or empty this one",
                )
            if known is not None and known < first[place] and not self._skip_expired:
                raise OffsetsLost(
                    f"starting {self.name}: records {known} to {first[place] - 1} of {place.topic}/{place.partition} "
                    "expired before they were written",
                    hint="--skip-expired goes on without them",
                )
            self._known[place.topic, place.partition] = known
            self._consumer.seek(place, max(first[place], known or 0))

    async def _carry(self, records: Sequence[Record]) -> None:
        started = time.monotonic()
        await self._write([(record, await self._decoded(record)) for record in records])
        self._observer.unit_done(self.name, len(records), time.monotonic() - started)

    async def _decoded(self, record: Record) -> Item | None:
        """Return the record's item; None when it was dead-lettered."""
        while True:
            try:
                return self._decode(record)
            except SchemaUnavailable as missing:
                unknown = missing
            except InputError as error:
                await self._give_up(record, error)
                return None
            await self._persist(partial(frames.resolve, unknown, self._schemas))

    async def _write(self, batch: Sequence[tuple[Record, Item | None]]) -> None:
        items = [item for _, item in batch if item is not None]
        moves = self._moves([record for record, _ in batch])
        try:
            rows = await self._persist(lambda: self._store.write(items, moves))
        except InputError as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._write(batch[:middle])
                await self._write(batch[middle:])
            else:
                await self._give_up(batch[0][0], error)
                await self._write([(batch[0][0], None)])
            return
        self._known.update({place: new for place, (_, new) in moves.items()})
        self._tell(rows, items)

    def _moves(self, records: Sequence[Record]) -> dict[Place, Move]:
        new = {(record.topic, record.partition): record.offset + 1 for record in records}
        return {place: (self._known[place], offset) for place, offset in new.items()}

    async def _give_up(self, record: Record, error: InputError) -> None:
        log.error(
            "record dead-lettered",
            extra={
                "sink": self.name,
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "error": type(error).__name__,
            },
        )
        await self._persist(lambda: self._dead_letter(record, error, self.name))
        self._observer.dead_lettered(self.name, type(error).__name__, record.topic)

    async def _persist(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Run an action until no service is away."""
        pause_s = self._hold_seconds_min
        while True:
            try:
                result = await action()
            except ServiceRefused:
                raise
            except (ServiceError, SchemaUnavailable) as error:
                self.held_reason = str(error)
                self._observer.failed(self.name, type(error).__name__)
                log.warning("sink held", extra={"sink": self.name, "reason": str(error), "retry_s": round(pause_s, 2)})
                # Jitter, so that several sinks do not knock in step.
                await self._pause(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  no secret hangs on it
                pause_s = min(2 * pause_s, HOLD_SECONDS_MAX)
            else:
                self.held_reason = ""
                return result

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped

    def _tell(self, rows: Mapping[str, int], items: Iterable[Item]) -> None:
        for table, count in rows.items():
            self._observer.rows_written(self.name, table, count)
        now_ms = time.time() * 1000
        for item in items:
            for at_ms in self._received_at_ms(item):
                self._observer.landed(self.name, max(0.0, now_ms - at_ms) / 1000)

    async def _tell_lag(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            end = self._consumer.last_stable_offset(place)
            if end is not None:
                behind = end - await self._consumer.position(place)
                self._observer.behind(self.name, place.topic, place.partition, max(0, behind))


async def first_record(consumer: Consumer, topic: str, partitions: Partitions, stop: asyncio.Event) -> Record | None:
    """Return some record of a topic, waiting for the first; None when told to stop before it came."""
    while not stop.is_set():
        count = (await partitions([topic])).get(topic, 0)
        places = [TopicPartition(topic, number) for number in range(count)]
        if places:
            consumer.assign(places)
            for place, offset in (await consumer.beginning_offsets(places)).items():
                consumer.seek(place, offset)
        while places and not stop.is_set():
            arrived = await consumer.getmany(timeout_ms=POLL_MS_MAX, max_records=1)
            for record in _records(arrived):
                return record
        if not places:
            await asyncio.sleep(TOPICS_POLL_S)
    return None


def _records(arrived: Mapping[TopicPartition, list[Any]]) -> Iterator[Record]:
    for place, messages in arrived.items():
        for message in messages:
            yield Record(
                place.topic,
                place.partition,
                message.offset,
                message.timestamp,
                message.key,
                message.value,
                tuple(message.headers),
            )


def _cut(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Cut what arrived into batches of bounded size; a larger record travels alone."""
    return frames.batches(
        records, lambda record: len(record.value or b""), prompts_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
    )
