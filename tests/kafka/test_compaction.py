"""A changelog whose segments rolled and were compacted restores the same rows, deleted ones staying deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import orjson
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.engine.engine import Engine
from streams.engine.ports import Unit
from tests.kafka.chain import KEYS, PARTITIONS, Chain, until

pytestmark = pytest.mark.kafka

COMPACTED_AT_ONCE = {
    "segment.ms": "100",
    "segment.bytes": "1048576",
    "min.cleanable.dirty.ratio": "0.0",
    "delete.retention.ms": "0",
}
ROUNDS = 12


def configure(bootstrap: str, kind: ResourceType, name: str, settings: dict[str, str]) -> None:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (changed,) = admin.incremental_alter_configs([ConfigResource(kind, name, incremental_configs=entries)]).values()
    changed.result()


@pytest.fixture
def chain(bootstrap: str) -> Iterator[Chain]:
    """Return a chain on a broker whose cleaner does not rest for 15 s between two rounds."""
    configure(bootstrap, ResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "100"})
    yield Chain(bootstrap)
    configure(bootstrap, ResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "15000"})


def keeping(chain: Chain) -> Engine:
    """Return an engine that keeps the newest id of a key, forgets it now and then, and tells its rows when asked."""
    engine = chain.bare_engine()
    newest = engine.table("newest", owner=chain.topic("in"))

    async def keep(unit: Unit) -> None:
        for record in unit.records:
            entry = orjson.loads(record.value or b"")
            if entry["id"] < 0:
                rows = {key: int(value) for key, value in newest.items(unit.partition)}
                unit.send(chain.topic("out"), orjson.dumps(rows), partition=unit.partition)
            elif forgets(entry["id"]):
                newest.delete(entry["key"])
            else:
                newest.put(entry["key"], b"%d" % entry["id"])

    engine.stage("keeping", chain.topic("in"), keep)
    return engine


async def rows(chain: Chain) -> dict[str, int]:
    """Return what the running engine holds, over all partitions."""
    before = len(await asyncio.to_thread(chain.read, "out"))
    await asyncio.to_thread(chain.produce, range(-PARTITIONS, 0))
    found = await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= before + PARTITIONS)
    newest = {message.partition(): message for message in found}
    return {key: number for message in newest.values() for key, number in orjson.loads(message.value() or b"").items()}


def forgets(number: int) -> bool:
    return (number // KEYS + number % KEYS) % 3 == 2


async def test_a_compacted_changelog_restores_the_same_rows(chain: Chain) -> None:
    chain.create_topics(keeping(chain))
    changelog = f"{chain.run}-newest-changelog"
    await asyncio.to_thread(configure, chain.bootstrap, ResourceType.TOPIC, changelog, COMPACTED_AT_ONCE)
    async with keeping(chain).running():
        for number in range(ROUNDS):
            await asyncio.to_thread(chain.produce, range(number * KEYS, (number + 1) * KEYS))
            await asyncio.to_thread(
                chain.read, "newest-changelog", enough=lambda found, wanted=number: newest_id(found) >= wanted * KEYS
            )
            await asyncio.sleep(0.1)  # the next commit rolls the segment
        before = await rows(chain)
    last = range((ROUNDS - 1) * KEYS, ROUNDS * KEYS)
    assert before == {f"k{number % KEYS}": number for number in last if not forgets(number)}
    await until(lambda: len(chain.read("newest-changelog")) < 3 * KEYS)
    async with keeping(chain).running():
        assert await rows(chain) == before


def newest_id(messages: Sequence[Message]) -> int:
    return max((int(value) for message in messages if (value := message.value())), default=0)
