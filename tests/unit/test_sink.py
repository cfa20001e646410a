"""The loop of a sink: from where the store says, nothing skipped, a bad record out of the way, a stop that is clean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.avro import WriterSchema
from schemas.errors import InputError, SchemaUnavailable, ServiceRefused, ServiceUnavailable, UndecodableRecord
from streams.engine.ports import Record
from streams.engine.sink import BATCH_RECORDS_MAX, Move, OffsetsLost, Place, Sink, first_record
from tests.sink_records import SinkObserver

TOPIC = "things"


@dataclass
class Message:
    offset: int
    value: bytes
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class FakeConsumer:
    """Partitions as lists of messages; sets `stop` when everything was handed out."""

    partitions: dict[int, list[Message]]
    stop: asyncio.Event
    first_offset: int = 0
    at: dict[int, int] = field(default_factory=dict)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.at = {place.partition: -1 for place in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at[partition.partition] = offset

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.first_offset)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.end(place.partition) for place in partitions}

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:  # noqa: ARG002  aiokafka's signature
        await asyncio.sleep(0)
        found = {}
        for partition, messages in self.partitions.items():
            assert self.at[partition] >= 0, "read before seek"
            waiting = [message for message in messages if message.offset >= self.at[partition]][:max_records]
            if waiting:
                found[TopicPartition(TOPIC, partition)] = waiting
                self.at[partition] = waiting[-1].offset + 1
        if not found:
            self.stop.set()
        return found

    async def position(self, partition: TopicPartition) -> int:
        return self.at[partition.partition]

    def last_stable_offset(self, partition: TopicPartition) -> int:
        return self.end(partition.partition)

    def end(self, partition: int) -> int:
        return max((message.offset + 1 for message in self.partitions[partition]), default=0)


@dataclass
class FakeStore:
    """Keeps items and offsets together, as a transaction would; fails as told."""

    name: str = "fake"
    items: list[str] = field(default_factory=list)
    offsets: dict[Place, int] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    refused: frozenset[str] = frozenset()

    async def positions(self) -> dict[Place, int]:
        return dict(self.offsets)

    async def write(self, batch: Sequence[str], moves: Mapping[Place, Move]) -> dict[str, int]:
        if self.failures:
            raise self.failures.pop(0)
        if self.refused & set(batch):
            raise InputError("the store does not take it")
        assert {place: known for place, (known, _) in moves.items()} == {
            place: self.offsets.get(place) for place in moves
        }
        self.items += batch
        self.batches.append(len(batch))
        self.offsets |= {place: new for place, (_, new) in moves.items()}
        return {"things": len(batch)}


class NoSchemas:
    """Knows none."""

    def known(self, reference: str) -> WriterSchema | None:  # noqa: ARG002  the port's signature
        return None

    async def find(self, reference: str) -> WriterSchema:
        raise SchemaUnavailable("nobody knows it", reference=reference)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  what is waited for is an attribute of the code under test
        await asyncio.sleep(0.001)


def decode(record: Record) -> str:
    text = (record.value or b"").decode()
    if text == "broken":
        raise UndecodableRecord("it is broken")
    return text


class Rig:
    """A sink over fakes."""

    def __init__(self, partitions: Mapping[int, Sequence[str]], **store: Any) -> None:
        self.stop = asyncio.Event()
        messages = {
            number: [Message(offset, text.encode()) for offset, text in enumerate(texts)]
            for number, texts in partitions.items()
        }
        self.consumer = FakeConsumer(messages, self.stop)
        self.store = FakeStore(**store)
        self.observer = SinkObserver()
        self.dead_letters: list[tuple[int, str, str]] = []
        self.dead_letter_failures: list[Exception] = []

    def sink(self, **changed: Any) -> Sink[str]:
        arguments: dict[str, Any] = {
            "partitions": self.existing,
            "dead_letter": self._dead_letter,
            "schemas": NoSchemas(),
            "observer": self.observer,
            "stop": self.stop,
            "received_at_ms": lambda _: [0],
            "hold_seconds_min": 0.0,
        }
        return Sink([TOPIC], decode, self.store, self.consumer, **{**arguments, **changed})

    async def existing(self, topics: Sequence[str]) -> dict[str, int]:
        assert list(topics) == [TOPIC]
        return {TOPIC: len(self.consumer.partitions)}

    async def _dead_letter(self, record: Record, error: Exception, stage: str) -> None:
        if self.dead_letter_failures:
            raise self.dead_letter_failures.pop(0)
        self.dead_letters.append((record.offset, type(error).__name__, stage))


async def test_everything_arrives_once_in_the_order_of_its_partition() -> None:
    rig = Rig({0: ["a", "b", "c"], 1: ["x", "y"]})
    await rig.sink().run()
    assert [item for item in rig.store.items if item in "abc"] == ["a", "b", "c"]
    assert [item for item in rig.store.items if item in "xy"] == ["x", "y"]
    assert rig.store.offsets == {(TOPIC, 0): 3, (TOPIC, 1): 2}
    assert rig.observer.rows == {"things": 5}
    assert len(rig.observer.latencies_s) == 5
    assert rig.observer.lags == {0: 0, 1: 0}


async def test_reading_goes_on_where_the_store_says() -> None:
    rig = Rig({0: ["a", "b", "c"], 1: ["x"]}, offsets={(TOPIC, 0): 2})
    await rig.sink().run()
    assert sorted(rig.store.items) == ["c", "x"]


async def test_a_store_that_is_away_is_tried_until_it_is_back() -> None:
    rig = Rig({0: ["a", "b"]}, failures=[ServiceUnavailable("away")] * 4)
    await rig.sink().run()
    assert rig.store.items == ["a", "b"]
    assert rig.observer.failures == ["ServiceUnavailable"] * 4


async def test_a_store_that_refuses_ends_the_sink() -> None:
    rig = Rig({0: ["a"]}, failures=[ServiceRefused("wrong password")])
    with pytest.raises(ServiceRefused):
        await rig.sink().run()
    assert rig.store.offsets == {}


async def test_a_stop_while_the_store_is_away_ends_at_once_and_moves_nothing() -> None:
    rig = Rig({0: ["a"]}, failures=[ServiceUnavailable("away")] * 1000)
    sink = rig.sink(hold_seconds_min=3600.0)
    running = asyncio.create_task(sink.run())
    await until(lambda: bool(sink.held_reason))
    rig.stop.set()
    await asyncio.wait_for(running, 5)
    assert (rig.store.items, rig.store.offsets) == ([], {})


async def test_an_undecodable_record_is_dead_lettered_and_its_neighbours_are_written() -> None:
    rig = Rig({0: ["a", "broken", "c"]})
    await rig.sink().run()
    assert rig.store.items == ["a", "c"]
    assert rig.dead_letters == [(1, "UndecodableRecord", "sink-fake")]
    assert rig.store.offsets == {(TOPIC, 0): 3}


async def test_the_offset_does_not_move_past_a_bad_record_before_its_dead_letter_is_sent() -> None:
    rig = Rig({0: ["broken"]})
    rig.dead_letter_failures = [ServiceUnavailable("no broker")] * 1000
    sink = rig.sink(hold_seconds_min=3600.0)
    running = asyncio.create_task(sink.run())
    await until(lambda: bool(sink.held_reason))
    assert rig.store.offsets == {}
    rig.stop.set()
    await running
    assert rig.store.offsets == {}


@pytest.mark.parametrize("bad", [{"c"}, {"a"}, {"h"}, {"b", "c"}, set("abcdefgh")])
async def test_a_record_the_store_refuses_is_found_by_halving(bad: set[str]) -> None:
    rig = Rig({0: list("abcdefgh")}, refused=frozenset(bad))
    await rig.sink().run()
    assert rig.store.items == [letter for letter in "abcdefgh" if letter not in bad]
    assert [offset for offset, _, _ in rig.dead_letters] == sorted("abcdefgh".index(letter) for letter in bad)
    assert rig.store.offsets == {(TOPIC, 0): 8}


async def test_a_batch_is_bounded_in_records() -> None:
    rig = Rig({0: ["x"] * (2 * BATCH_RECORDS_MAX + 1), 1: ["y"] * BATCH_RECORDS_MAX})
    await rig.sink().run()
    assert max(rig.store.batches) <= BATCH_RECORDS_MAX
    assert len(rig.store.items) == 3 * BATCH_RECORDS_MAX + 1


async def test_topics_that_are_not_there_yet_are_waited_for() -> None:
    rig = Rig({0: ["a"]})
    answers: list[dict[str, int]] = [{}, {TOPIC: 1}]

    async def appearing(topics: Sequence[str]) -> dict[str, int]:
        return answers.pop(0)

    sink = rig.sink(partitions=appearing)
    running = asyncio.create_task(sink.run())
    await until(lambda: "things" in sink.held_reason)
    await running
    assert (rig.store.items, sink.held_reason) == (["a"], "")


async def test_records_that_expired_unwritten_stop_the_sink_until_somebody_accepts_it() -> None:
    rig = Rig({0: ["a", "b", "c"]}, offsets={(TOPIC, 0): 0})
    rig.consumer.first_offset = 2
    with pytest.raises(OffsetsLost, match="records 0 to 1 of things/0 expired"):
        await rig.sink().run()
    await rig.sink(skip_expired=True).run()
    assert rig.store.items == ["c"]


async def test_a_topic_that_was_made_anew_is_noticed() -> None:
    rig = Rig({0: ["a"]}, offsets={(TOPIC, 0): 9})
    with pytest.raises(OffsetsLost, match="made anew"):
        await rig.sink().run()


async def test_a_frame_of_an_unknown_schema_is_held_not_given_up() -> None:
    rig = Rig({0: ["a"]})

    def unknown(record: Record) -> str:
        raise SchemaUnavailable("unknown", reference="fingerprint:00")

    sink = Sink(
        [TOPIC],
        unknown,
        rig.store,
        rig.consumer,
        partitions=rig.existing,
        dead_letter=rig._dead_letter,
        schemas=NoSchemas(),
        observer=rig.observer,
        stop=rig.stop,
        received_at_ms=lambda _: [],
        hold_seconds_min=0.001,
    )
    running = asyncio.create_task(sink.run())
    await until(lambda: len(rig.observer.failures) >= 3)
    assert "nobody knows it" in sink.held_reason
    rig.stop.set()
    await running
    assert (rig.dead_letters, rig.store.offsets) == ([], {})


async def test_the_first_record_of_a_topic_is_waited_for_until_told_to_stop() -> None:
    rig = Rig({0: [], 1: ["x"]})
    record = await first_record(rig.consumer, TOPIC, rig.existing, rig.stop)
    assert record is not None
    assert (record.partition, record.value) == (1, b"x")
    empty = Rig({0: []})
    assert await first_record(empty.consumer, TOPIC, empty.existing, empty.stop) is None
