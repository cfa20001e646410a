"""A producer that is stopped while its broker hangs leaves nothing behind that could send later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from infra.embedded.kafka import Kafka
from schemas.topics import Topic
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import Outgoing
from streams.settings import KafkaSettings, load

pytestmark = pytest.mark.kafka

TOPIC = Topic("words", "key", "word", public=False, retention_ms=-1)
WORD = Outgoing(TOPIC.name, 0, None, b"word")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Return a broker of this file's own, because it is made to hang."""
    found = Kafka(tmp_path_factory.mktemp("broker"), load().cache_dir)
    found.start(detached=False)
    yield found
    found.kill()


@pytest.mark.parametrize("cancelled", [False, True], ids=["to its end", "by a caller who is cancelled"])
async def test_nothing_is_left_of_a_producer_stopped_while_its_broker_hangs(broker: Kafka, *, cancelled: bool) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    await asyncio.to_thread(Admin(kafka).create, [TOPIC], partitions=1, replication_factor=1)
    before = asyncio.all_tasks()
    producer = TransactionalProducer(f"app-{cancelled}", aiokafka_configuration(kafka))
    await producer.start()
    await producer.send([WORD])
    await producer.commit((TOPIC.name, 0), 1, "app")  # now it knows where everything is
    broker.kill(signal.SIGSTOP)
    try:
        await producer.send([WORD])
        await asyncio.sleep(0)  # the request is under way
        stopping = asyncio.create_task(producer.stop())
        if cancelled:
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait({stopping})
            await producer.stop()
        await asyncio.wait({stopping})
        assert asyncio.all_tasks() - before == set()
        assert not any(connection.connected() for connection in producer._producer.client._conns.values())
    finally:
        broker.kill(signal.SIGCONT)
