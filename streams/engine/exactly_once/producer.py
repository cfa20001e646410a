"""The transaction of one source partition.

Records go out in whole batches, one future each instead of one a record: that, and not the
transaction, is what made sending expensive. A transaction begins with the first unit after a commit
and holds one or more whole units.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.conn import CloseReason
from aiokafka.structs import OffsetAndMetadata

from streams.engine.exactly_once.unit import HandlerMisuse, Outgoing
from streams.engine.limits import (
    BATCH_BYTES_MAX,
    COMMIT_TIMEOUT_S,
    PRODUCER_STOP_SECONDS_MAX,
    SEND_BATCH_BYTES,
    TRANSACTION_TIMEOUT_MS,
)

log = logging.getLogger(__name__)


class ConnectionLost(Exception):
    """A broker went away while a partition was worked on."""


@dataclass(frozen=True, slots=True)
class ProducerId:
    """What the broker knows a transactional id by; the epoch grows with every fence."""

    number: int
    epoch: int


class TransactionalProducer:
    """A producer with an id that only one worker can hold at a time."""

    def __init__(self, transactional_id: str, connection: Mapping[str, Any]) -> None:
        self.transactional_id = transactional_id
        self.in_transaction = False
        self.connection_lost = False  # since the start, other than for want of use
        self._futures: list[asyncio.Future[Any]] = []
        self._stopping: asyncio.Task[None] | None = None
        self._producer = AIOKafkaProducer(
            **connection,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=SEND_BATCH_BYTES,
            max_request_size=BATCH_BYTES_MAX,
            linger_ms=0,
        )
        # A commit that was answered can still be lost in part when its broker dies. The client would connect
        # again without a word, so the one place that learns of every lost connection is listened to.
        self._forward_close = self._producer.client._on_connection_closed  # noqa: SLF001
        self._producer.client._on_connection_closed = self._on_connection_closed  # noqa: SLF001

    async def start(self) -> ProducerId:
        """Fence every earlier holder of the id; return when its last transaction is decided."""
        await self._producer.start()
        self.connection_lost = False
        manager = self._producer._txn_manager  # noqa: SLF001
        return ProducerId(manager.producer_id, manager.producer_epoch)

    async def send(self, records: Iterable[Outgoing]) -> None:
        """Hand the records of a whole unit to the transaction, in order by partition.

        Raises:
            HandlerMisuse: a partition does not exist.
            ConnectionLost: a connection broke, and there is no transaction yet.
        """
        if not self.in_transaction:
            # Where the last transaction lost a marker, this one would take its records along, whatever becomes of it.
            if self.connection_lost:
                raise ConnectionLost("a connection to a broker broke")
            await self._producer.begin_transaction()
            self._end_of_transaction().add_done_callback(_look_at)
            self.in_transaction = True
        filling: dict[tuple[str, int], Any] = {}
        batches: list[tuple[Any, str, int]] = []
        for record in records:
            where = record.topic, record.partition
            batch = filling.get(where)
            if batch is None or not _append(batch, record):
                batch = filling[where] = self._producer.create_batch()
                batches.append((batch, *where))
                if not _append(batch, record):
                    raise AssertionError(f"a record of {record.size_bytes} bytes does not fit an empty batch")
        for batch, topic, partition in batches:
            partitions = await self._producer.partitions_for(topic)
            if partition not in partitions:
                raise HandlerMisuse(
                    f"a record was sent to partition {partition} of {topic}, which has {len(partitions)}"
                )
            future = await self._producer.send_batch(batch, topic, partition=partition)
            future.add_done_callback(_look_at)
            self._futures.append(future)

    async def commit(self, source: tuple[str, int], position: int, group: str) -> dict[tuple[str, int], int]:
        """Make everything sent, and the position, take effect in one stroke.

        Return, for each topic and partition written to, an offset not after the last record.
        """
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            # An error of a record must surface here: Kafka would commit the others without it.
            written = await asyncio.gather(*self._futures)
            offsets = {TopicPartition(*source): OffsetAndMetadata(position, "")}
            await self._producer.send_offsets_to_transaction(offsets, group)
            await self._producer.commit_transaction()
        self._futures.clear()
        self.in_transaction = False
        # A batch that was sent twice is acknowledged without its offset.
        return {(batch.topic, batch.partition): batch.offset for batch in written if batch.offset >= 0}

    def _on_connection_closed(self, connection: Any, reason: CloseReason | None) -> None:
        if reason not in (None, CloseReason.IDLE_DROP, CloseReason.SHUTDOWN):
            self.connection_lost = True
        self._forward_close(connection, reason)

    async def stop(self) -> None:
        """Disconnect at once; what is under way is dropped. An open transaction stays open: the next holder ends it.

        Goes on to its end when the caller is cancelled.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._let_go(), name=f"stop {self.transactional_id}")
        await asyncio.shield(self._stopping)

    async def _let_go(self) -> None:
        # The client's own stop would first send what is pending. With the broker away that has no end, and whatever
        # is still sent once it is back joins a transaction that nobody commits any more.
        sending = _tasks_of(self._producer._sender)  # noqa: SLF001
        for task in sending:
            task.cancel()
        for connection in self._producer.client._conns.values():  # noqa: SLF001
            if connection._writer is not None:  # noqa: SLF001
                connection._writer.transport.abort()  # noqa: SLF001  to close would wait until a silent broker reads
        self._producer._message_accumulator.fail_all(ConnectionLost("the producer was stopped"))  # noqa: SLF001
        if sending:
            await asyncio.wait(sending, timeout=PRODUCER_STOP_SECONDS_MAX)
        if (ended := self._end_of_transaction()) is not None and ended.done():
            _look_at(ended)  # a sender that fails between two transactions says so here
        await stop_quietly(self._producer, self.transactional_id)

    def _end_of_transaction(self) -> Any:
        return self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001


async def stop_quietly(client: Any, name: str) -> None:
    """Stop an aiokafka client whatever state it is in.

    A sender that died raises again on stop, and `stop()` right after `start()` lets the cancellation of a
    task of its own escape. Only a cancellation of the caller may pass.
    """
    try:
        await asyncio.wait_for(client.stop(), PRODUCER_STOP_SECONDS_MAX)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except Exception as error:  # noqa: BLE001  nothing depends on a client that is thrown away
        log.warning("client did not stop cleanly", extra={"client": name, "error": repr(error)})


def _tasks_of(sender: Any) -> list[asyncio.Task[Any]]:
    """Return every task that works for a sender: it names only the first, and may have lost sight of the others."""
    frames = ((task, getattr(task.get_coro(), "cr_frame", None)) for task in asyncio.all_tasks())
    return [task for task, frame in frames if frame is not None and frame.f_locals.get("self") is sender]


def _append(batch: Any, record: Outgoing) -> bool:
    return (
        batch.append(key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=list(record.headers))
        is not None
    )


def _look_at(future: asyncio.Future[Any]) -> None:
    """Mark the error as seen: a session that is dropped never waits for its futures."""
    if not future.cancelled():
        future.exception()
