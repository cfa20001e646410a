"""What the Kafka clients and topics are configured with, from the settings and the topics table."""

from __future__ import annotations

import ssl

import pytest
from pydantic import SecretStr

from connectors.kafka.admin import TopicState, configuration_of, differences, refuse_other_partitions
from connectors.kafka.client import REQUEST_BYTES_MAX, aiokafka_configuration, confluent_configuration
from schemas.errors import SettingsInvalid
from schemas.limits import RECORD_BYTES_MAX
from schemas.topics import DEAD_LETTERS, EVOLUTION_EVENTS, HOUR_MS, PROMPTS, SCHEMAS, TEMPLATES, TOPICS, Topic
from streams.settings import KafkaSettings

PLAIN = KafkaSettings(bootstrap_servers="broker:9092")
SECURE = KafkaSettings(
    bootstrap_servers="broker:9093",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="ann",
    sasl_password=SecretStr("hush"),
)


def test_a_plain_broker_needs_its_address_only() -> None:
    assert aiokafka_configuration(PLAIN) == {"bootstrap_servers": "broker:9092", "security_protocol": "PLAINTEXT"}
    assert not any(name.startswith(("sasl", "ssl")) for name in confluent_configuration(PLAIN))


def test_both_clients_are_told_the_same_secret() -> None:
    confluent, aiokafka = confluent_configuration(SECURE), aiokafka_configuration(SECURE)
    assert confluent["sasl.mechanism"] == aiokafka["sasl_mechanism"] == "SCRAM-SHA-512"
    assert confluent["sasl.username"] == aiokafka["sasl_plain_username"] == "ann"
    assert confluent["sasl.password"] == aiokafka["sasl_plain_password"] == "hush"
    assert isinstance(aiokafka["ssl_context"], ssl.SSLContext)


def test_encryption_without_a_password_sends_none() -> None:
    encrypted = KafkaSettings(bootstrap_servers="broker:9093", security_protocol="SSL")
    assert "ssl_context" in aiokafka_configuration(encrypted)
    assert not any(name.startswith("sasl") for name in confluent_configuration(encrypted))


def test_a_full_record_fits_a_request_and_every_topic() -> None:
    assert REQUEST_BYTES_MAX > RECORD_BYTES_MAX
    assert confluent_configuration(PLAIN)["message.max.bytes"] == REQUEST_BYTES_MAX
    assert {configuration_of(topic)["max.message.bytes"] for topic in TOPICS} == {str(REQUEST_BYTES_MAX)}


def test_no_producers_clock_decides_about_retention() -> None:
    assert {configuration_of(topic)["message.timestamp.type"] for topic in TOPICS} == {"LogAppendTime"}


def test_text_outlives_its_retention_by_an_eighth_at_most() -> None:
    for topic in (PROMPTS, DEAD_LETTERS):
        entries = configuration_of(topic)
        assert entries["cleanup.policy"] == "delete"
        assert entries["retention.ms"] == str(topic.retention_ms)
        assert int(entries["segment.ms"]) * 8 <= topic.retention_ms
    brief = Topic("brief", "none", "none", public=False, retention_ms=HOUR_MS)
    assert configuration_of(brief)["segment.ms"] == str(HOUR_MS)


def test_what_is_kept_for_good_is_compacted_or_never_deleted() -> None:
    assert configuration_of(EVOLUTION_EVENTS)["retention.ms"] == "-1"
    for topic in (TEMPLATES, SCHEMAS):
        entries = configuration_of(topic)
        assert entries["cleanup.policy"] == "compact"
        assert entries["min.cleanable.dirty.ratio"] == "0.1"


def a_state(topic: Topic, partitions: int, **changed: str) -> TopicState:
    return TopicState(topic.name, partitions, 1, configuration_of(topic) | changed)


def test_a_topic_as_the_table_has_it_differs_in_nothing() -> None:
    assert differences(PROMPTS, a_state(PROMPTS, 8, **{"flush.ms": "1"})) == {}


def test_only_what_differs_is_set_back() -> None:
    state = a_state(PROMPTS, 8, **{"retention.ms": "1"})
    assert differences(PROMPTS, state) == {"retention.ms": str(PROMPTS.retention_ms)}


def test_other_numbers_of_partitions_are_refused_all_at_once() -> None:
    states = {state.name: state for state in (a_state(PROMPTS, 4), a_state(TEMPLATES, 8), a_state(SCHEMAS, 8))}
    with pytest.raises(SettingsInvalid) as refused:
        refuse_other_partitions(TOPICS, states, 8)
    assert "4 partitions instead of 8: prompts" in str(refused.value)
    assert "8 partitions instead of 1: schemas" in str(refused.value)
    assert "templates" not in str(refused.value)
