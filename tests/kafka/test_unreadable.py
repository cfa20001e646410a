"""Records that aiokafka fails on: odd ones are processed like any other, broken ones hold their partition alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c
from confluent_kafka import Producer

from infra.embedded import start
from streams.engine.exactly_once.careful import parse, read_carefully
from streams.engine.limits import CAREFUL_BYTES_MAX
from streams.settings import load
from tests.kafka.chain import KEYS, PARTITIONS, Chain, until

pytestmark = pytest.mark.kafka

ODD = b"caf\xe9"  # as a producer in a language without Unicode strings may name a header
LENGTH_AT = 8
LAST_DELTA_AT = 23
CHECKSUM_AT = 17  # in a batch; it is of all that follows


@pytest.fixture
def chain(bootstrap: str) -> Chain:
    return Chain(bootstrap)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the address of a broker of the test's own, and where its files are."""
    folder = tmp_path / "data"
    with start(folder, load().cache_dir, postgres=False) as services:
        yield services.addresses.bootstrap_servers, folder


async def produce_odd(chain: Chain, value: bytes, key: str) -> None:
    """Write a record as no library for Python would: with a header named `ODD`."""
    stand_in = "z" * len(ODD)
    builder = BatchBuilder(1_000, 0)
    builder.append(timestamp=None, key=key.encode(), value=value, headers=[(stand_in, b"\xff")])
    batch = bytes(builder._build()).replace(stand_in.encode(), ODD)
    batch = batch[:CHECKSUM_AT] + calc_crc32c(batch[CHECKSUM_AT + 4 :]).to_bytes(4) + batch[CHECKSUM_AT + 4 :]
    partition = int(key.removeprefix("k")) % KEYS % PARTITIONS
    client = AIOKafkaClient(bootstrap_servers=chain.bootstrap)
    await client.bootstrap()
    try:
        request = ProduceRequest(None, -1, 10_000, [(chain.topic("in"), [(partition, batch)])])
        answer = await client.send(1, request)
        assert answer.topics[0][1][0][1] == 0
    finally:
        await client.close()


async def test_a_header_name_that_is_not_utf_8_costs_nothing_and_is_told_once(
    chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    engine = chain.engine()
    chain.create_topics(engine)
    await asyncio.to_thread(chain.produce, range(100))
    await produce_odd(chain, orjson.dumps({"id": 100, "key": "k0"}), "k0")
    await produce_odd(chain, b"no JSON", "k1")
    await asyncio.to_thread(chain.produce, range(101, 200))
    ids = [*range(100), 100, *range(101, 200)]
    async with engine.running():
        await asyncio.to_thread(chain.assert_exactly_once, ids)
        letters = await asyncio.to_thread(chain.read, "dead-letters", enough=lambda found: len(found) == 1)
        assert engine.reasons() == {}
    headers = dict(letters[0].headers() or [])
    assert (letters[0].value(), headers[r"caf\xe9"]) == (b"no JSON", b"\xff")
    (told,) = [record for record in caplog.records if record.message.startswith("records are read carefully")]
    assert told.levelno == logging.WARNING
    assert "UnicodeDecodeError: 'utf-8' codec" in vars(told)["error"]


async def test_a_partition_that_lies_far_behind_leaves_room_for_the_others(chain: Chain) -> None:
    chain.create_topics(chain.engine())
    producer = Producer({"bootstrap.servers": chain.bootstrap})
    for number in range(PARTITIONS):
        for _ in range(3):
            producer.produce(chain.topic("in"), bytes(CAREFUL_BYTES_MAX // 2), partition=number)
        producer.flush()
    client = AIOKafkaClient(bootstrap_servers=chain.bootstrap)
    await client.bootstrap()
    await client.set_topics([chain.topic("in")])
    try:
        positions = {TopicPartition(chain.topic("in"), number): 0 for number in range(PARTITIONS)}
        found = await read_carefully(client, positions)
    finally:
        await client.close()
    assert {partition: bool(of.records) for partition, of in found.items()} == dict.fromkeys(positions, True)


async def test_a_broken_batch_holds_its_partition_says_where_and_is_read_once_it_is_whole(
    broker: tuple[str, Path],
) -> None:
    chain = Chain(broker[0])
    engine = chain.engine()
    chain.create_topics(engine)
    await asyncio.to_thread(chain.produce, range(100))
    await asyncio.to_thread(chain.produce, [101])
    (segment,) = broker[1].glob(f"**/{chain.topic('in')}-1/*.log")
    place = f"one {chain.topic('in')}-1"
    flip_last_bit(segment)
    async with engine.running():
        await until(lambda: place in engine.reasons())
        reason = engine.reasons()[place]
        assert f"{chain.topic('in')}-1 cannot be read at offset 26 (CorruptRecordException)" in reason
        assert f"set the offset of group {chain.run} to 27" in reason
        # What came before it passed, and the other partitions go on.
        await asyncio.to_thread(chain.produce, [102, 103, 104])
        others = [*range(100), 102, 103, 104]
        await asyncio.to_thread(chain.assert_exactly_once, others)
        assert set(engine.reasons()) == {place}
        flip_last_bit(segment)
        await asyncio.to_thread(chain.assert_exactly_once, [*others, 101])
        await until(lambda: engine.reasons() == {})


def test_what_stands_before_a_broken_batch_is_returned_and_the_fault_names_its_end() -> None:
    builders = [BatchBuilder(1_000, 0) for _ in range(2)]
    for number in range(4):
        builders[number // 2].append(timestamp=1, key=None, value=b"%d" % number, headers=[("name", b"")])
    good, broken = (bytearray(builder._build()) for builder in builders)
    broken[7] = 2  # the offset of its first record
    broken[-1] ^= 1
    found = parse(TopicPartition("t", 0), 0, bytes(good + broken), 9)
    assert ([record.value for record in found.records], found.end) == ([b"0", b"1"], 2)
    assert found.fault is not None
    assert (found.fault.at, found.fault.after) == (2, 4)
    cut = parse(TopicPartition("t", 0), 1, bytes(good + broken[:-3]), 9)
    assert ([record.value for record in cut.records], cut.end, cut.fault) == ([b"1"], 2, None)


@pytest.mark.parametrize("length", [1_000, 10, 0, -1, -12, -40, 2**31 - 1, -(2**31)])
def test_a_batch_whose_length_is_broken_is_a_fault(length: int) -> None:
    builder = BatchBuilder(1_000, 0)
    builder.append(timestamp=1, key=None, value=b"1", headers=[])
    batch = bytearray(builder._build())
    batch[LENGTH_AT : LENGTH_AT + 4] = length.to_bytes(4, signed=True)
    found = parse(TopicPartition("t", 0), 0, bytes(batch), 9)
    assert found.fault is not None
    assert (found.records, found.fault.at, found.fault.after) == ([], 0, 1)


def test_a_broken_batch_never_ends_behind_its_partition() -> None:
    builder = BatchBuilder(1_000, 0)
    builder.append(timestamp=1, key=None, value=b"1", headers=[])
    batch = bytearray(builder._build())
    batch[LAST_DELTA_AT] = 1  # the last of its records is said to be 2**24 further
    found = parse(TopicPartition("t", 0), 0, bytes(batch), 9)
    assert found.fault is not None
    assert found.fault.after == 9


async def test_a_batch_that_ends_behind_its_file_holds_its_partition_and_is_named_soon(
    broker: tuple[str, Path],
) -> None:
    """The broker sends nothing at all of it, and no error."""
    chain = Chain(broker[0])
    engine = chain.engine()
    chain.create_topics(engine)
    await asyncio.to_thread(chain.produce, range(100))
    await asyncio.to_thread(chain.produce, [101])
    (segment,) = broker[1].glob(f"**/{chain.topic('in')}-1/*.log")
    place = f"one {chain.topic('in')}-1"
    whole = segment.read_bytes()
    segment.write_bytes(lengthened(whole))
    async with engine.running():
        await until(lambda: place in engine.reasons(), 12)
        reason = engine.reasons()[place]
        assert f"{chain.topic('in')}-1 cannot be read at offset 26 (the broker finds no whole batch there)" in reason
        assert f"set the offset of group {chain.run} to 27" in reason
        await asyncio.to_thread(chain.produce, [102, 103, 104])
        others = [*range(100), 102, 103, 104]
        await asyncio.to_thread(chain.assert_exactly_once, others)
        segment.write_bytes(whole)
        await asyncio.to_thread(chain.assert_exactly_once, [*others, 101])
        await until(lambda: engine.reasons() == {})


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def lengthened(data: bytes) -> bytes:
    """Return a segment whose last batch ends far behind it."""
    at, following = 0, 0
    while following < len(data):
        at = following
        following += LENGTH_AT + 4 + int.from_bytes(data[at + LENGTH_AT : at + LENGTH_AT + 4])
    return data[: at + LENGTH_AT] + (10_000_000).to_bytes(4) + data[at + LENGTH_AT + 4 :]


@pytest.mark.parametrize(
    ("broken", "error"), [(flipped, "CorruptRecordException"), (lengthened, "the broker finds no whole batch there")]
)
async def test_a_broken_changelog_is_named_with_what_to_do_and_read_once_it_is_whole(
    broker: tuple[str, Path], broken: Callable[[bytes], bytes], error: str
) -> None:
    chain = Chain(broker[0])
    engine = chain.engine()
    chain.create_topics(engine)
    await asyncio.to_thread(chain.produce, range(100))
    async with engine.running():
        await asyncio.to_thread(chain.output, 100)
    changelog = f"{chain.run}-first-changelog-1"
    (segment,) = broker[1].glob(f"**/{changelog}/*.log")
    whole = segment.read_bytes()
    segment.write_bytes(broken(whole))
    again = chain.engine()
    async with again.running():
        await until(lambda: f"{changelog} cannot be read at offset" in again.reasons().get("group", ""), 20)
        for _ in range(20):  # also while it is tried again
            assert f"({error}): mend it, from another replica say" in again.reasons()["group"]
            await asyncio.sleep(0.1)
        segment.write_bytes(whole)
        await asyncio.to_thread(chain.produce, [100])
        await asyncio.to_thread(chain.assert_exactly_once, range(101))
        assert again.reasons() == {}


def flip_last_bit(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        (last,) = opened.read(1)
        opened.seek(-1, 2)
        opened.write(bytes([last ^ 1]))
