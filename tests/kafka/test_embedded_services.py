"""The embedded services as everything else uses them."""

from __future__ import annotations

import uuid

import asyncpg
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.limits import RECORD_BYTES_MAX


@pytest.mark.kafka
def test_a_record_of_the_largest_size_goes_through_the_broker(bootstrap: str) -> None:
    topic = f"large-{uuid.uuid4().hex}"
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 2 * RECORD_BYTES_MAX})
    producer.produce(topic, b"x" * RECORD_BYTES_MAX)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error() is None
    assert len(message.value()) == RECORD_BYTES_MAX


@pytest.mark.postgres
async def test_one_dsn_serves_both_drivers_and_starts_empty(postgres_dsn: str) -> None:
    query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    connection = await asyncpg.connect(postgres_dsn)
    assert await connection.fetchval(query) == 0
    await connection.close()
    with psycopg.connect(postgres_dsn) as synchronous:
        assert synchronous.execute(query).fetchone() == (0,)
