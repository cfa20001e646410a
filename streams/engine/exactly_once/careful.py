"""Records that the client's parser fails on, read once more by its slower one, up to what really cannot be read.

The fast parser wants header names in UTF-8, which Kafka does not ask for. One record with another name would
end the worker that reads it, and the next one. Here such a name is read with its odd bytes as escapes (`\\xff`), and
the record is like any other. What is broken (a checksum, a length) stays unreadable: everything before it is
returned, with a fault that names the place. A batch whose length points past the end of its file is nothing that
a broker sends: it answers with no bytes at all, again and again, though it says that there is more.

Intuition: a page that the reading machine rejects is read by a person with a magnifying glass. Smudged letters
are transcribed; at a hole the person stops, and says where.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from streams.engine.exactly_once.inbox import Fault
from streams.engine.limits import CAREFUL_BYTES_MAX, FETCH_RECORDS_MAX

HEAD = struct.Struct(">qi4xb")  # of a batch: offset of its first record, length of what follows, version
LENGTH_ENDS = 12  # the length counts from here
LAST_DELTA = struct.Struct(">23xi")  # from the first offset to the last
HEADERS_SINCE = 2  # the version of batches whose records have headers
REPLICAS_SINCE = 11  # the version of answers that name a replica behind the aborted transactions


class Unreadable(Exception):
    """A partition cannot be read on from some offset. The message says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """The records of one partition up to position `end`, and what is wrong there."""

    records: list[Any]
    end: int
    fault: Fault | None


async def read_carefully(
    client: AIOKafkaClient, positions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Found]:
    """Read some committed records from each position on; a partition that does not answer is left out.

    Raises:
        KafkaError: a broker does not answer.
    """
    found: dict[TopicPartition, Found] = {}
    for partition, position in positions.items():
        leader = client.cluster.leader_for_partition(partition)
        if leader in (None, -1):
            continue
        # One partition a request: a backlog of one takes no room from the others, and of the partition that comes first
        # a broker answers the first batch whole, however large it is. One that is not whole is broken.
        wanted = [(partition.topic, [(partition.partition, position, CAREFUL_BYTES_MAX)])]
        answer = await client.send(leader, FetchRequest(0, 0, CAREFUL_BYTES_MAX, READ_COMMITTED, wanted))
        ((_, ((_, error, end, stable, *more),)),) = answer.topics
        if not error:
            aborted = more[1] if answer.API_VERSION >= REPLICAS_SINCE else more[-2]
            found[partition] = parse(partition, position, more[-1], end, aborted)
            if not more[-1] and stable > position:
                # Nothing tells where the batch ends; what lies behind it in its file is likely not found either.
                found[partition] = Found([], position, Fault(position, stable, "the broker finds no whole batch there"))
    return found


def parse(partition: TopicPartition, position: int, data: bytes, end: int, aborted: Any = ()) -> Found:
    """Return the records in the bytes of a fetch, up to the first that cannot be read; `end` is the partition's."""
    batches = _Batches(data)
    parsed = PartitionRecords(partition, batches, aborted, position, None, None, True, READ_COMMITTED)
    records: list[Any] = []
    fault = None
    try:
        for record in parsed:
            records.append(record)
            if len(records) == FETCH_RECORDS_MAX:
                break
    except Exception as error:  # noqa: BLE001  a parser of broken bytes may raise anything
        at = parsed.next_fetch_offset
        # What a broken batch says of its own end may be broken as well; it lies within the partition in any case.
        fault = Fault(at, max(at + 1, min(batches.end, end)), type(error).__name__)
    return Found(records, parsed.next_fetch_offset, fault)


class _Batches:
    """The batches in some bytes, the last of which may be cut. Stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self.end = 0  # the offset after the batch that was taken last
        self._left = memoryview(data)
        self._begun = False

    def has_next(self) -> bool:
        whole = len(self._left) >= HEAD.size and LENGTH_ENDS + HEAD.unpack_from(self._left)[1] <= len(self._left)
        if self._left and not (whole or self._begun):
            raise CorruptRecordException("the length of a batch is broken")
        return whole

    def next_batch(self) -> Any:
        self._begun = True
        first, length, version = HEAD.unpack_from(self._left)
        data = self._left[: LENGTH_ENDS + length]
        self._left = self._left[len(data) :]
        if version < HEADERS_SINCE:
            return MemoryRecords(bytes(data)).next_batch()
        (delta,) = LAST_DELTA.unpack_from(data)
        self.end = first + delta + 1
        return _Batch(data)


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch whose header names may be any bytes."""

    _buffer: bytearray

    def __iter__(self) -> _Batch:
        super().__iter__()
        self._buffer = _Lenient(self._buffer)
        return self


class _Lenient(bytearray):
    """Bytes whose parts are decoded with escapes. Only header names are decoded in a batch."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Lenient(part) if isinstance(at, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
