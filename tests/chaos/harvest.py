"""Everything a reader of committed records finds, read from the beginning once nothing moves any more.

Nothing is taken over from what was seen on the way. Where the last stable offset of a partition is not its end, a
transaction hangs open: that is a finding of its own, because readers will never pass it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from streams.engine.ports import Record

READ_SECONDS_MAX = 120.0
READ_POLL_S = 0.2
REQUEST_TIMEOUT_S = 20.0

Place = tuple[str, int]  # topic and partition


@dataclass(slots=True)
class Harvest:
    """Records by topic, then partition, in the order of their offsets."""

    records: dict[str, dict[int, list[Record]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    ends: dict[Place, int] = field(default_factory=dict)  # what can be read ends there
    hanging: dict[Place, int] = field(default_factory=dict)  # records behind a transaction that nobody ended

    def of(self, topic: str) -> list[Record]:
        """Return the records of a topic, partition after partition."""
        partitions = self.records[topic]
        return [record for number in sorted(partitions) for record in partitions[number]]

    def rows(self, changelog: str) -> dict[tuple[int, str], bytes]:
        """Return the rows a changelog ends with, by partition and key."""
        rows: dict[tuple[int, str], bytes] = {}
        for record in self.of(changelog):
            place = record.partition, (record.key or b"").decode("utf-8", "surrogatepass")
            if record.value is None:
                rows.pop(place, None)
            else:
                rows[place] = record.value
        return rows

    def last_offset(self, place: Place) -> int:
        """Return the offset of the last record; -1 where there is none."""
        topic, partition = place
        found = self.records[topic][partition]
        return found[-1].offset if found else -1


def gather(connection: Mapping[str, Any], topics: Sequence[str]) -> Harvest:
    """Read topics to their last stable offsets.

    Raises:
        TimeoutError: the end was not reached.
    """
    admin = AdminClient(dict(connection))
    found = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    places = [(topic, number) for topic in topics if topic in found for number in found[topic].partitions]
    stable = _ends(admin, places, IsolationLevel.READ_COMMITTED)
    last = _ends(admin, places, IsolationLevel.READ_UNCOMMITTED)
    hanging = {place: last[place] - stable[place] for place in places if last[place] > stable[place]}
    harvest = Harvest(ends=stable, hanging=hanging)
    _read(connection, {place: end for place, end in stable.items() if end}, harvest)
    return harvest


def committed(connection: Mapping[str, Any], group: str, places: Sequence[Place]) -> dict[Place, int]:
    """Return the offsets a group has committed; -1 where there is none."""
    consumer = Consumer({**connection, "group.id": group, "enable.auto.commit": False})
    try:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_S)
    finally:
        consumer.close()
    return {(each.topic, each.partition): max(-1, each.offset) for each in found}


def _ends(admin: AdminClient, places: Sequence[Place], level: IsolationLevel) -> dict[Place, int]:
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    futures = admin.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_TIMEOUT_S)
    ends: dict[Place, int] = {}
    for place, future in futures.items():
        answer: ListOffsetsResultInfo = future.result()
        ends[place.topic, place.partition] = answer.offset
    return ends


def _read(connection: Mapping[str, Any], ends: Mapping[Place, int], harvest: Harvest) -> None:
    consumer = Consumer(
        {
            **connection,
            "group.id": "chaos-harvest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.assign([TopicPartition(*place, 0) for place in ends])
    waiting = set(ends)
    deadline = time.monotonic() + READ_SECONDS_MAX
    try:
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"reading to the end took too long: {sorted(waiting)} are left")
            for message in consumer.consume(2_000, READ_POLL_S):
                if not message.error():
                    record = _record(message)
                    harvest.records[record.topic][record.partition].append(record)
            # Positions pass what is never delivered: the markers of transactions, and what was aborted.
            places = consumer.position([TopicPartition(*place) for place in waiting])
            waiting -= {
                (place.topic, place.partition) for place in places if place.offset >= ends[place.topic, place.partition]
            }
    finally:
        consumer.close()


def _record(message: Message) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    headers = tuple((name, value if isinstance(value, bytes) else b"") for name, value in message.headers() or ())
    return Record(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)
