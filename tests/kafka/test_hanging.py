"""Transactions left hanging are ended as they were decided, before a session reads what is true.

A broker that crashes between a decision and its markers leaves them; here they are made on purpose: a producer
writes into partitions that its coordinator was not told of, so that ending the transaction skips them.
Brokers refuse that since 3.6, so the check is switched off while the tests of this file run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.kafka.client import aiokafka_configuration
from streams.engine.exactly_once.hanging import HangingTransactions
from streams.engine.exactly_once.producer import ProducerId, TransactionalProducer
from tests.kafka.chain import Chain

pytestmark = pytest.mark.kafka

VERIFICATION = "transaction.partition.verification.enable"


@pytest.fixture(scope="module")
def unverified(bootstrap: str) -> Iterator[str]:
    """Return a broker that lets a producer write without telling the coordinator."""
    set_on_brokers(bootstrap, "false")
    yield bootstrap
    set_on_brokers(bootstrap, "true")


def set_on_brokers(bootstrap: str, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    entry = ConfigEntry(VERIFICATION, value, incremental_operation=AlterConfigOpType.SET)
    for number in admin.list_topics(timeout=10).brokers:
        broker = ConfigResource(ResourceType.BROKER, str(number), incremental_configs=[entry])
        (changed,) = admin.incremental_alter_configs([broker]).values()
        changed.result()


@pytest.fixture
def chain(unverified: str) -> Chain:
    found = Chain(unverified)
    found.create_topics(found.engine())
    return found


class Predecessor:
    """An earlier owner of partition 0 of a stage, in the middle of a transaction."""

    def __init__(self, chain: Chain, source: str) -> None:
        self._chain = chain
        self._source = chain.topic(source)
        self.transactional_id = f"{chain.run}-{self._source}-0"
        self.producer = AIOKafkaProducer(bootstrap_servers=chain.bootstrap, transactional_id=self.transactional_id)

    async def send(self, name: str, number: int, *, hidden: bool) -> None:
        """Send an entry to partition 0; `hidden` from the coordinator, so that no marker comes."""
        topic = self._chain.topic(name)
        if hidden:
            self.producer._txn_manager._txn_partitions.add(TopicPartition(topic, 0))
        await self.producer.send_and_wait(topic, orjson.dumps({"id": number, "key": "k0"}), partition=0)

    async def commit(self, *, position: int) -> None:
        """Commit; the offset goes where the coordinator does not look."""
        self.producer._txn_manager.consumer_group_added(self._chain.run)
        offsets = {TopicPartition(self._source, 0): OffsetAndMetadata(position, "")}
        await self.producer.send_offsets_to_transaction(offsets, self._chain.run)
        await self.producer.commit_transaction()


@pytest.fixture
async def predecessor(chain: Chain) -> AsyncIterator[Predecessor]:
    """Return an earlier owner of the first stage, with a transaction begun."""
    found = Predecessor(chain, "in")
    await found.producer.start()
    await found.producer.begin_transaction()
    yield found
    await found.producer.stop()


async def test_what_was_committed_takes_effect_everywhere(chain: Chain, predecessor: Predecessor) -> None:
    await asyncio.to_thread(chain.produce, [0, 100])  # of one key
    await predecessor.send("dead-letters", 7, hidden=False)
    await predecessor.send("mid", 0, hidden=True)
    await predecessor.commit(position=1)
    assert await asyncio.to_thread(chain.read, "mid") == []
    async with chain.engine().running():
        entries = await asyncio.to_thread(chain.output, 2)
    # The first entry is not worked on a second time: its offset was committed along.
    assert [(entry["id"], entry.get("one")) for entry in entries] == [(0, None), (100, 1)]


async def test_what_was_never_decided_takes_no_effect(chain: Chain, predecessor: Predecessor) -> None:
    await asyncio.to_thread(chain.produce, [0, 100])
    await predecessor.send("mid", 0, hidden=True)
    async with chain.engine().running():
        entries = await asyncio.to_thread(chain.output, 2)
    assert [(entry["id"], entry["one"]) for entry in entries] == [(0, 1), (100, 2)]


async def finished(hanging: HangingTransactions, held: ProducerId) -> int:
    """Finish as a worker does: a broker that does not lead a new partition yet is asked again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await hanging.finish([held])
            except KafkaError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("answered", [True, False], ids=["after the fence", "within it"])
async def test_a_decision_outlives_an_attempt_that_failed(
    chain: Chain, predecessor: Predecessor, *, answered: bool
) -> None:
    await predecessor.send("dead-letters", 7, hidden=False)
    await predecessor.send("mid", 0, hidden=True)
    await predecessor.commit(position=1)
    hanging = HangingTransactions(aiokafka_configuration(chain.kafka))
    name = predecessor.transactional_id
    for attempt in range(2):  # the first attempt ends after the fence, which made the coordinator forget
        await hanging.look([name])
        successor = TransactionalProducer(name, aiokafka_configuration(chain.kafka))
        held = await successor.start()
        if answered or attempt:
            hanging.fenced(name, held)
        await successor.stop()
    assert await finished(hanging, held) == 2
    assert [orjson.loads(message.value() or b"")["id"] for message in await asyncio.to_thread(chain.read, "mid")] == [0]
    assert await finished(hanging, held) == 0
