"""Faust's transport, with the parts replaced that break exactly once.

What stays Faust's: the app and its services, agents and streams, tables as declarations, the
assignor that keeps topics and changelogs together, the group rebalance. What is replaced: fetching
(tagged with positions, one message a batch instead of one a record), committing, seeking after a
rebalance, and table recovery, which is told that there is nothing to recover.

The consumer runs in a thread of its own, so heartbeats go on whatever the main loop does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    UnsupportedCodecError,
)
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from streams.engine.exactly_once.careful import read_carefully
from streams.engine.exactly_once.inbox import Batch, Fault
from streams.engine.exactly_once.truth import Source
from streams.engine.limits import FETCH_BYTES_MAX, FETCH_RECORDS_MAX, FETCH_WAIT_MS_MAX, SILENT_FETCH_S
from streams.engine.ports import Record

if TYPE_CHECKING:
    from streams.engine.app import EngineApp

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.02  # between two looks when no partition may be fetched
NOWHERE = -1  # no position
# Errors of records; others are of the broker. Too large is what a batch looks like whose length is broken: the broker
# answers the first batch of a partition whole, or not at all.
UNREADABLE = (CorruptRecordException, RecordTooLargeError, UnsupportedCodecError)


class BatchMessage(ConsumerMessage):
    """One message of Faust for all records of a fetch from one partition."""

    batch: Batch


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches, and knows for every record which position came before it.

    `_cursor` holds the position up to which records were handed over. A fetch and a seek exclude each
    other: a fetch that began before a seek must not carry the records read after it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epoch = -1
        self._cursor: dict[TopicPartition, int] = {}
        # Positions from which nothing comes, though there is something, and since when.
        self._silent_since: dict[tuple[TopicPartition, int], float] = {}
        self._turn: asyncio.Lock | None = None
        self._slow_for: set[str] = set()  # the kinds of errors after which records were read carefully

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        app = cast("EngineApp", transport.app)
        return aiokafka.AIOKafkaConsumer(
            **app.connection,
            group_id=app.conf.id,
            group_instance_id=app.conf.consumer_group_instance_id,
            partition_assignment_strategy=[app.assignor],
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",  # a position that the broker does not have is a doubt, not a jump
            session_timeout_ms=int(app.conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(app.conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(app.conf.broker_rebalance_timeout * 1000),
            max_poll_records=FETCH_RECORDS_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )

    async def fetch(self, epoch: int, sources: Collection[Source]) -> list[Batch]:
        """Return what is there for some partitions; wait a moment when nothing is."""
        partitions = {TopicPartition(*source) for source in sources}
        batches: list[Batch] = await self.call_thread(self._fetch, epoch, partitions)
        return batches

    async def go_on_from(self, epoch: int, positions: Mapping[Source, int]) -> None:
        """Go on from these positions; from now on batches carry `epoch`."""
        await self.call_thread(self._go_on_from, epoch, dict(positions))

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001  aiokafka offers no public way
        self.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    def last_stable_offset(self, source: Source) -> int | None:
        consumer = self._ensure_consumer()
        try:
            offset: int | None = consumer.last_stable_offset(TopicPartition(*source))
        except IllegalStateError:  # taken away meanwhile
            return None
        return offset

    async def _fetch(self, epoch: int, partitions: set[TopicPartition]) -> list[Batch]:
        async with self._exclusively():
            consumer = self._ensure_consumer()
            subscriptions = consumer._subscription  # noqa: SLF001
            assignment = subscriptions.subscription.assignment if subscriptions.subscription else None
            with subscriptions.fetch_context():  # tells the group that this worker is not idle
                partitions &= assignment.tps if assignment else set()
                # No partition at all would mean all of them.
                if assignment is None or not partitions or epoch != self._epoch:
                    await asyncio.sleep(IDLE_SECONDS)
                    return []
                try:
                    fetched = await consumer._fetcher.fetched_records(  # noqa: SLF001
                        partitions, timeout=FETCH_WAIT_MS_MAX / 1000, max_records=FETCH_RECORDS_MAX
                    )
                except NoOffsetForPartitionError:
                    return []  # left from before the seek: where nothing is committed, the client knows no position
                except OffsetOutOfRangeError as error:
                    return [self._out_of_range(partition) for partition in error.args[0]]
                except Exception as error:  # whatever a parser raises
                    if isinstance(error, KafkaError) and not isinstance(error, UNREADABLE):
                        raise
                    self._tell_slow(error)
                    return await self._fetch_carefully(consumer, assignment, partitions)
            if not assignment.active:
                return []  # a rebalance came between; these records are read again
            # What waits in the client is not what the broker keeps back.
            waiting = fetched.keys() | consumer._fetcher._records.keys()  # noqa: SLF001
            if silent := self._silent(assignment, partitions - waiting):
                return await self._fetch_carefully(consumer, assignment, silent)
            return [
                self._batch(partition, end, fetched.get(partition, ()))
                for partition in partitions
                # Not `.position`: it raises while there is none.
                if (end := assignment.state_value(partition)._position) is not None  # noqa: SLF001
                and end != self._cursor.get(partition)
            ]

    def _silent(self, assignment: Any, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Return the partitions that have brought nothing for long, though they have records to read.

        A broker that does not find a whole batch at the position sends no error either.
        """
        now = time.monotonic()
        states = ((partition, assignment.state_value(partition)) for partition in partitions)
        places = ((partition, state._position or 0, state.lso or 0) for partition, state in states)  # noqa: SLF001
        # What was never fetched yet has no end.
        since = {(partition, at): now for partition, at, end in places if end > at}
        since = self._silent_since = since | {at: self._silent_since[at] for at in since if at in self._silent_since}
        silent = {at for at, began in since.items() if now - began > SILENT_FETCH_S}
        for at in silent:
            del since[at]
        return {partition for partition, _ in silent}

    def _tell_slow(self, error: Exception) -> None:
        """Say once for each kind of error that it makes reading slow: it may be ours, and comes with every fetch."""
        kind = type(error).__name__
        level = logging.DEBUG if kind in self._slow_for else logging.WARNING
        self._slow_for.add(kind)
        # Not its `repr`: that of a decoding error holds the bytes.
        log.log(level, "records are read carefully, which is slow", extra={"error": f"{kind}: {error}"})

    async def _fetch_carefully(
        self, consumer: aiokafka.AIOKafkaConsumer, assignment: Any, partitions: Collection[TopicPartition]
    ) -> list[Batch]:
        positions = {partition: self._cursor[partition] for partition in partitions}
        # The error took along what had been fetched of all of them, and some were moved behind it.
        for partition, position in positions.items():
            consumer.seek(partition, position)
        try:
            found = await read_carefully(consumer._client, positions)  # noqa: SLF001
        except KafkaError as error:
            log.warning("careful reading failed, trying again", extra={"error": repr(error)})
            await asyncio.sleep(IDLE_SECONDS)
            return []
        if not assignment.active:
            return []
        for partition, of in found.items():
            consumer.seek(partition, of.end)
        return [
            self._batch(partition, of.end, of.records, of.fault)
            for partition, of in found.items()
            if of.fault is not None or of.end != positions[partition]
        ]

    def _out_of_range(self, partition: TopicPartition) -> Batch:
        """Return a batch that joins nothing, so that its session starts over and looks at what there is."""
        return Batch(partition.topic, partition.partition, self._epoch, NOWHERE, NOWHERE, ())

    def _batch(
        self, partition: TopicPartition, end: int, fetched: Collection[Any], fault: Fault | None = None
    ) -> Batch:
        start = self._cursor.get(partition, -1)
        self._cursor[partition] = end
        records = tuple(
            Record(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                tuple(record.headers),
            )
            for record in fetched
        )
        return Batch(partition.topic, partition.partition, self._epoch, start, end, records, fault)

    async def _go_on_from(self, epoch: int, positions: Mapping[Source, int]) -> None:
        async with self._exclusively():
            consumer = self._ensure_consumer()
            sources = {TopicPartition(*source): position for source, position in positions.items()}
            # Changelogs are assigned too, but read elsewhere and only up to a point.
            consumer.pause(*(consumer.assignment() - set(sources)))
            for source, position in sources.items():
                consumer.seek(source, position)
            self._cursor = dict(sources)
            self._epoch = epoch

    def _exclusively(self) -> asyncio.Lock:
        if self._turn is None:
            self._turn = asyncio.Lock()  # made in the thread whose loop it belongs to
        return self._turn


class Consumer(driver.Consumer):
    """Feeds the sessions and tells them about assignments. Implements `sessions.Group`."""

    app: EngineApp
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        sessions = self.app.sessions
        while not (self.should_stop or fetcher.should_stop):
            # Until Faust has finished a rebalance it clears the queues that batches go through.
            sources = [] if self.app.rebalancing else sessions.fetchable()
            try:
                batches = await self._thread.fetch(sessions.epoch, sources)
            except ConsumerStoppedError:
                return
            for batch in batches:
                await self.callback(self._message(batch))
            await asyncio.sleep(0)

    def _message(self, batch: Batch) -> BatchMessage:
        partition = TP(batch.topic, batch.partition)
        message = BatchMessage(
            *(batch.topic, batch.partition, batch.start, 0.0, 0, [], None, b"", None, -1, 0, partition),
            # Streams drop messages of another generation.
            generation_id=self.app.consumer_generation_id,
        )
        message.batch = batch
        return message

    # -- assignments

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.app.sessions.close()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:  # then Faust never seeks
            self.app.sessions.open(self, ())

    async def perform_seek(self) -> None:
        """Faust's last step after a rebalance; where its own version seeks, sessions begin to open."""
        await self.app.sessions.close()
        self.app.sessions.open(self, self.assignment())

    async def on_stop(self) -> None:
        await self.app.sessions.close()

    async def go_on_from(self, epoch: int, positions: Mapping[Source, int]) -> None:
        await self._thread.go_on_from(epoch, positions)

    def rejoin(self) -> None:
        self._thread.rejoin()

    def last_stable_offset(self, source: Source) -> int | None:
        return self._thread.last_stable_offset(source)

    # -- what Faust does itself elsewhere, and must not do here

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Changelogs are not read through this consumer."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        return True

    def ack(self, message: Message) -> bool:
        message.acked = True
        return True

    def track_message(self, message: Message) -> None:
        """Nothing is acknowledged one by one."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's stall detector looks at acknowledgements; `Sessions.watch` looks at sessions."""

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        """Topics are made by the operator; the engine checks them at the start."""


class Producer(driver.Producer):
    """Faust's own producer. Nothing is sent through it, but the app starts one."""

    app: EngineApp

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:  # noqa: ARG002
        return aiokafka.AIOKafkaProducer(**self.app.connection)

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        """As of the consumer."""


class Transport(driver.Transport):
    """The two together, as Faust expects them."""

    Consumer = Consumer
    Producer = Producer
