"""An app without tables whose offsets are gone: no rows tell, so what earlier openings noted does."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.errors import StateIncompatible
from streams.engine.engine import Engine
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.ports import Unit
from tests.kafka.chain import PARTITIONS, Chain, until

pytestmark = pytest.mark.kafka


class Copying(Chain):
    """One stage without a table: what comes in goes out."""

    def engine(self) -> Engine:
        engine = self.bare_engine()

        async def copy(unit: Unit) -> None:
            for record in unit.records:
                unit.send(self.topic("out"), record.value, partition=unit.partition, key=record.key)

        engine.stage("copying", self.topic("in"), copy)
        return engine


@pytest.fixture
def chain(bootstrap: str) -> Copying:
    found = Copying(bootstrap)
    found.create_topics(found.engine())
    return found


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


async def work_off(chain: Chain, entries: int) -> list[int]:
    """Run a worker until so many entries came out; return their ids."""
    async with chain.engine().running():
        found = await asyncio.to_thread(chain.output, entries)
    return sorted(entry["id"] for entry in found)


async def delete_group(admin: AdminClient, group: str) -> None:
    (answer,) = admin.delete_consumer_groups([group]).values()
    await asyncio.wrap_future(answer)


async def refusal(chain: Chain) -> str:
    with pytest.raises(StateIncompatible) as refused:
        await chain.engine().work()
    return f"{refused.value} {refused.value.hint}"


async def open_once(chain: Chain) -> None:
    engine = chain.engine()
    async with engine.running():
        await until(lambda: not engine.reasons())


async def test_offsets_that_are_gone_are_refused_whatever_the_worker_did_before(
    chain: Copying, admin: AdminClient
) -> None:
    await asyncio.to_thread(chain.produce, range(PARTITIONS))
    assert await work_off(chain, PARTITIONS) == list(range(PARTITIONS))
    for _ in range(2):
        await open_once(chain)  # which makes the coordinator forget what was committed
    await delete_group(admin, chain.run)
    said = await refusal(chain)
    assert f"{chain.topic('in')}-" in said
    assert "has no committed offset, but had one before" in said
    assert f"delete group {chain.run}-fences as well" in said


async def test_an_opening_without_records_is_remembered_as_well(chain: Copying, admin: AdminClient) -> None:
    await open_once(chain)
    await asyncio.to_thread(chain.produce, [0])
    await delete_group(admin, chain.run)
    assert "had one before" in await refusal(chain)


async def test_to_begin_anew_on_purpose_offsets_are_set_or_both_groups_deleted(
    chain: Copying, admin: AdminClient
) -> None:
    await asyncio.to_thread(chain.produce, [0])
    assert await work_off(chain, 1) == [0]
    await delete_group(admin, chain.run)
    beginning = [TopicPartition(chain.topic("in"), number, 0) for number in range(PARTITIONS)]
    (answer,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(chain.run, beginning)]).values()
    await asyncio.wrap_future(answer)
    async with chain.engine().running():
        await asyncio.to_thread(chain.read, "out", enough=lambda found: len(found) == 2)
    await delete_group(admin, chain.run)
    await delete_group(admin, f"{chain.run}-fences")
    async with chain.engine().running():
        found = await asyncio.to_thread(chain.read, "out", enough=lambda found: len(found) == 3)
    assert [orjson.loads(message.value() or b"")["id"] for message in found] == [0, 0, 0]


async def test_a_first_start_that_died_before_it_committed_is_still_a_first_start(chain: Copying) -> None:
    for _ in range(2):
        for partition in range(PARTITIONS):
            name = f"{chain.run}-{chain.topic('in')}-{partition}"
            producer = TransactionalProducer(name, {"bootstrap_servers": chain.bootstrap})
            await producer.start()
            await producer.stop()
    await asyncio.to_thread(chain.produce, [0])
    assert await work_off(chain, 1) == [0]
