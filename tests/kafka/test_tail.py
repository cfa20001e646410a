"""`promptloom tail` reads what is published, and says clearly what it cannot read."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from connectors.kafka.admin import Admin
from connectors.kafka.counting import count_records
from schemas.errors import ServiceUnavailable
from schemas.events import EvolutionEvent, EvolutionType
from schemas.topics import EVOLUTION_EVENTS, Topic
from streams.cli.tail import tail
from streams.settings import KafkaSettings

pytestmark = pytest.mark.kafka


def an_event(number: int, tenant: str) -> EvolutionEvent:
    return EvolutionEvent(
        event_id=f"{tenant}-{number}",
        type=EvolutionType.UPDATED,
        tenant=tenant,
        cluster_id="c",
        prompt_id="p",
        reason=f"change {number}",
        detected_by="test",
        occurred_at_ms=number,
        partition=0,
        offset=number,
    )


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value)
    producer.flush(10)


def test_it_shows_the_events_of_one_tenant_and_skips_what_is_none(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Admin(KafkaSettings(bootstrap_servers=bootstrap)).create([EVOLUTION_EVENTS], partitions=8, replication_factor=1)
    events = [an_event(number, "tail-test") for number in range(2)]
    other = an_event(9, "tail-test-other")
    produce(bootstrap, EVOLUTION_EVENTS.name, [b"no event", *(e.model_dump_json().encode() for e in [other, *events])])
    monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", bootstrap)
    shown = CliRunner().invoke(
        tail, ["--from-beginning", "--tenant", "tail-test", "--limit", "2", "--json"], catch_exceptions=False
    )
    found = [json.loads(line)["event_id"] for line in shown.stdout.splitlines() if line.startswith("{")]
    assert sorted(found) == [event.event_id for event in events]


def test_without_a_broker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
        CliRunner().invoke(tail, ["--limit", "1"], catch_exceptions=False)


def test_records_are_counted_and_not_offsets(bootstrap: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    topic = Topic("count-test", "none", "bytes", False, -1)
    Admin(kafka).create([topic], partitions=2, replication_factor=1)
    assert count_records(kafka, topic.name) == 0
    produce(bootstrap, topic.name, [b"one", b"two", b"three"])
    assert count_records(kafka, topic.name) == 3
