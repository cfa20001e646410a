"""Topics and schemas on a real broker: made once, described as they are, never re-partitioned."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer

from connectors.kafka.admin import Admin, Outcome, configuration_of
from connectors.kafka.client import aiokafka_configuration, confluent_configuration
from connectors.kafka.schema_lookup import SchemaLookup
from connectors.kafka.schema_topic import SchemaTopic, fingerprint_of
from schemas.errors import SchemaUnavailable, ServiceRefused, ServiceUnavailable, SettingsInvalid
from schemas.limits import RECORD_BYTES_MAX
from schemas.prompts import ModeratedFrame
from schemas.topics import DAY_MS, SCHEMAS, TOPICS, Topic
from streams.cli.topics import topics
from streams.engine import frames
from streams.settings import KafkaSettings
from tests import wire

pytestmark = pytest.mark.kafka


@pytest.fixture
def kafka(bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=bootstrap)


def a_topic(*, compacted: bool = False, partitions: int | None = None) -> Topic:
    name = f"topics-{uuid.uuid4().hex}"
    return Topic(name, "none", "none", public=False, retention_ms=DAY_MS, compacted=compacted, partitions=partitions)


def test_creating_topics_twice_changes_nothing(kafka: KafkaSettings) -> None:
    table = [a_topic(), a_topic(compacted=True, partitions=1)]
    admin = Admin(kafka)
    assert admin.create(table, partitions=3, replication_factor=1) == dict.fromkeys(
        [topic.name for topic in table], Outcome.CREATED
    )
    assert set(admin.create(table, partitions=3, replication_factor=1).values()) == {Outcome.UNCHANGED}
    states = admin.states([topic.name for topic in table])
    assert [states[topic.name].partitions for topic in table] == [3, 1]
    for topic in table:
        found = states[topic.name].configuration
        assert {name: found[name] for name in configuration_of(topic)} == configuration_of(topic)


def test_processes_that_create_the_same_topics_at_once_all_succeed(kafka: KafkaSettings) -> None:
    table = [a_topic(partitions=1) for _ in range(3)]
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: Admin(kafka).create(table, partitions=1, replication_factor=1), range(4)))
    assert all(set(outcome) == {topic.name for topic in table} for outcome in outcomes)
    assert len(Admin(kafka).states([topic.name for topic in table])) == 3


def test_another_retention_is_set_back_to_the_tables(kafka: KafkaSettings) -> None:
    topic = a_topic()
    admin = Admin(kafka)
    longer = Topic(topic.name, "none", "none", public=False, retention_ms=7 * DAY_MS)
    admin.create([longer], partitions=1, replication_factor=1)
    assert admin.create([topic], partitions=1, replication_factor=1) == {topic.name: Outcome.UPDATED}
    assert admin.states([topic.name])[topic.name].configuration["retention.ms"] == str(DAY_MS)


def test_another_number_of_partitions_stops_everything_before_anything_is_made(kafka: KafkaSettings) -> None:
    there, missing = a_topic(), a_topic()
    admin = Admin(kafka)
    admin.create([there], partitions=2, replication_factor=1)
    with pytest.raises(SettingsInvalid, match=f"2 partitions instead of 3: {there.name}"):
        admin.create([there, missing], partitions=3, replication_factor=1)
    assert missing.name not in admin.states([missing.name])


def test_what_the_broker_refuses_is_said_in_its_words(kafka: KafkaSettings) -> None:
    with pytest.raises(ServiceRefused, match="replication factor"):
        Admin(kafka).create([a_topic()], partitions=1, replication_factor=3)


def test_a_record_of_the_largest_size_goes_in_and_comes_out(kafka: KafkaSettings) -> None:
    topic = a_topic(partitions=1)
    Admin(kafka).create([topic], partitions=1, replication_factor=1)
    producer = Producer({**confluent_configuration(kafka), "linger.ms": 0})
    errors: list[object] = []
    producer.produce(topic.name, b"x" * RECORD_BYTES_MAX, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None]

    consumer = Consumer({**confluent_configuration(kafka), "group.id": topic.name, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic.name])
    try:
        message = consumer.poll(20)
        assert message is not None
        assert len(message.value() or b"") == RECORD_BYTES_MAX
    finally:
        consumer.close()


async def test_a_published_schema_is_found_by_whoever_meets_its_fingerprint(kafka: KafkaSettings) -> None:
    name = a_topic(compacted=True, partitions=1)
    Admin(kafka).create([name], partitions=1, replication_factor=1)
    topic = SchemaTopic(kafka, topic=name.name)
    schema = frames.definition_of(ModeratedFrame)
    lookup = SchemaLookup(topic)
    reference = f"fingerprint:{frames.fingerprint_of(ModeratedFrame).hex()}"

    with pytest.raises(SchemaUnavailable):
        await SchemaLookup(topic).find(reference)
    assert await topic.publish([schema, schema]) == 1
    assert await topic.publish([schema]) == 0

    definition = (await lookup.find(reference)).definition
    assert f"fingerprint:{fingerprint_of(definition)}" == reference
    assert frames.learn(definition) == frames.fingerprint_of(ModeratedFrame)
    assert frames.decode(ModeratedFrame, frames.encode(wire.EXAMPLES[0])) == wire.EXAMPLES[0]


async def test_strange_records_between_schemas_are_passed_over(kafka: KafkaSettings) -> None:
    name = a_topic(compacted=True, partitions=1)
    Admin(kafka).create([name], partitions=1, replication_factor=1)
    topic = SchemaTopic(kafka, topic=name.name)
    await topic.publish(["string"])
    producer = AIOKafkaProducer(**aiokafka_configuration(kafka))
    await producer.start()
    try:
        for key, value in ((b"gone", b"5"), (b"gone", None), (b"\xff", b"{")):
            await producer.send_and_wait(name.name, value, key=key)
    finally:
        await producer.stop()
    assert await topic.read() == {fingerprint_of("string"): "string"}


async def test_without_a_broker_reading_and_publishing_say_so() -> None:
    nowhere = SchemaTopic(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    with pytest.raises(ServiceUnavailable, match="reading schemas"):
        await nowhere.read()
    with pytest.raises(ServiceUnavailable, match="schemas"):
        await nowhere.publish(["string"])


async def test_without_the_schemas_topic_the_reader_says_so(kafka: KafkaSettings) -> None:
    with pytest.raises(ServiceUnavailable, match="reading schemas"):
        await SchemaTopic(kafka, topic=a_topic().name).read()


def test_the_command_lists_every_topic_of_the_table(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    listed = CliRunner().invoke(topics, ["list", "--json"], catch_exceptions=False)
    assert [row["name"] for row in orjson.loads(listed.stdout)] == [topic.name for topic in TOPICS]
    shown = CliRunner().invoke(topics, ["list"], catch_exceptions=False)
    assert all(topic.name in shown.stdout for topic in TOPICS)


def test_the_command_describes_a_topic_against_the_table(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    Admin(kafka).create([SCHEMAS], partitions=8, replication_factor=1)
    described = orjson.loads(CliRunner().invoke(topics, ["describe", "schemas", "--json"]).stdout)
    assert described["state"] == "ok"
    assert described["configuration"]["cleanup.policy"] == {"table": "compact", "broker": "compact"}
    assert "cleanup.policy           compact" in CliRunner().invoke(topics, ["describe", "schemas"]).stdout
