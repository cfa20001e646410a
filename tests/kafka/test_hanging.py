"""Transactions left hanging are ended as they were decided, before a session reads what is true.

A broker that crashes between a decision and its markers leaves them; here they are made on purpose: a producer
writes into partitions that its coordinator was not told of, so that ending the transaction skips them.
Brokers refuse that since 3.6, so the check is switched off while the tests of this file run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.kafka.client import aiokafka_configuration
from streams.engine.exactly_once.hanging import OFFSETS_TOPIC, HangingTransactions
from streams.engine.exactly_once.producer import ProducerId, TransactionalProducer
from streams.engine.exactly_once.truth import Source
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


async def looked(hanging: HangingTransactions, ids: dict[str, Source]) -> None:
    """Look as a worker does: a coordinator that does not answer yet is asked again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await hanging.look(ids)
            except KafkaError:
                await asyncio.sleep(0.1)


async def finished(hanging: HangingTransactions, held: ProducerId) -> int:
    """Finish as a worker does: a broker that does not lead a new partition yet is asked again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await hanging.finish([held])
            except KafkaError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("answered", [True, False], ids=["after the fence", "within it"])
@pytest.mark.parametrize("died", [True, False], ids=["its worker died", "its worker tries again"])
async def test_a_decision_outlives_an_attempt_that_failed(
    chain: Chain, predecessor: Predecessor, *, answered: bool, died: bool
) -> None:
    await predecessor.send("dead-letters", 7, hidden=False)
    await predecessor.send("mid", 0, hidden=True)
    await predecessor.commit(position=1)
    connection = aiokafka_configuration(chain.kafka)
    hanging = HangingTransactions(chain.run, connection)
    name = predecessor.transactional_id
    # All attempts but the last end after the fence, which made the coordinator forget.
    for attempt in range(3):
        if died:  # what the worker remembered is gone as well
            hanging = HangingTransactions(chain.run, connection)
        await looked(hanging, {name: (chain.topic("in"), 0)})
        successor = TransactionalProducer(name, aiokafka_configuration(chain.kafka))
        held = await successor.start()
        if answered or attempt == 2:
            hanging.fenced(name, held)
        await successor.stop()
    assert await finished(hanging, held) == 2
    assert [orjson.loads(message.value() or b"")["id"] for message in await asyncio.to_thread(chain.read, "mid")] == [0]
    assert await finished(hanging, held) == 0


async def test_a_decision_does_not_outlive_another_transaction(chain: Chain, predecessor: Predecessor) -> None:
    source = chain.topic("in"), 0
    connection = aiokafka_configuration(chain.kafka)
    name = predecessor.transactional_id
    await predecessor.send("dead-letters", 7, hidden=False)
    await predecessor.producer.commit_transaction()
    await looked(HangingTransactions(chain.run, connection), {name: source})
    # Its worker died before the fence; the predecessor goes on, and is fenced out of the next transaction.
    await predecessor.producer.begin_transaction()
    await predecessor.send("dead-letters", 8, hidden=False)
    await predecessor.send("mid", 1, hidden=True)
    for _ in range(2):
        hanging = HangingTransactions(chain.run, connection)
        await looked(hanging, {name: source})
        successor = TransactionalProducer(name, connection)
        held = await successor.start()
        hanging.fenced(name, held)
        await successor.stop()
    assert await finished(hanging, held) == 1
    assert await asyncio.to_thread(chain.read, "mid") == []


async def test_notes_are_kept_for_longer_than_offsets_are(chain: Chain, predecessor: Predecessor) -> None:
    """The brokers still know the time that a commit asks for, though newer versions of the request have none."""
    await predecessor.send("dead-letters", 7, hidden=False)
    await predecessor.commit(position=1)
    name = predecessor.transactional_id
    hanging = HangingTransactions(chain.run, aiokafka_configuration(chain.kafka))
    await looked(hanging, {name: (chain.topic("in"), 0)})
    (expires_at_ms,) = expiries(chain.bootstrap, f"{chain.run}-fences")
    assert expires_at_ms / 1000 > time.time() + 9 * 365 * 86_400


def expiries(bootstrap: str, group: str) -> list[int]:
    """Return when the offsets of a group expire, as the broker has written it down."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "expiries", "enable.partition.eof": True})
    partitions = consumer.list_topics(OFFSETS_TOPIC, timeout=10).topics[OFFSETS_TOPIC].partitions
    consumer.assign([Place(OFFSETS_TOPIC, number, 0) for number in partitions])
    found, ended = [], 0
    while ended < len(partitions):
        for message in consumer.consume(500, 0.5):
            if message.error():
                ended += 1
            elif message.value() and group.encode() in (message.key() or b""):
                found.append(int.from_bytes((message.value() or b"")[-8:]))  # the last field, in versions up to 1
                assert int.from_bytes((message.value() or b"")[:2]) == 1
    consumer.close()
    return found
