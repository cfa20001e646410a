"""`promptloom dead-letters` on a real broker: what is listed, what is shown, and that nothing is sent back twice.

The topics have fixed names and the broker is shared, so each test has a tenant of its own and asks for that one.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from infra.embedded import start
from schemas.errors import InvalidPrompt, ServiceUnavailable
from schemas.limits import RECORD_BYTES_MAX
from schemas.topics import (
    DEAD_LETTERS,
    DEAD_LETTERS_REPLAYED,
    ERROR_HEADER_PREFIX,
    EVOLUTION_EVENTS,
    PROMPTS,
    PROMPTS_CANONICALIZED,
    PROMPTS_REJECTED,
    TOPICS,
)
from streams.cli.dead_letters import dead_letters
from streams.engine.dead_letter import DeadLetters
from streams.engine.letters import Filters
from streams.engine.ports import Record
from streams.prompts.dead_letters import TRANSACTION_LETTERS_MAX, DeadLetterBox, NoSuchLetter, Replayed, _explained
from streams.settings import KafkaSettings, load

pytestmark = pytest.mark.kafka

TEXT = "the-heron-waits-by-the-weir"
APP_ID = "dead-letters-test"


class Box:
    """The dead letters of one tenant, put there by the test, and the command run on them."""

    def __init__(self, bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tenant = f"tenant-{uuid.uuid4().hex[:12]}"
        self.kafka = confluent_configuration(KafkaSettings(bootstrap_servers=bootstrap))
        admin = Admin(KafkaSettings(bootstrap_servers=bootstrap))
        admin.create(TOPICS, partitions=8, replication_factor=1)
        self._letters = DeadLetters(DEAD_LETTERS.name, 8, ERROR_HEADER_PREFIX)
        self._producer = Producer(self.kafka)
        self._offset = int(time.time() * 1000)  # of the record a letter was made of: no two tests share one
        monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", bootstrap)
        monkeypatch.setenv("PROMPTLOOM_ENGINE__APP_ID", APP_ID)

    def put(
        self,
        number: int,
        *,
        stage: str = "moderation",
        topic: str = PROMPTS.name,
        error: Exception | None = None,
        padding: int = 0,
        key: str = "",
    ) -> Record:
        """Dead-letter a record as a stage would; return the record."""
        value = json.dumps({"id": f"p{number}", "tenant": self.tenant, "text": TEXT + "x" * padding}).encode()
        self._offset += 1
        record = Record(
            topic, number % 8, self._offset, 0, (key or f"key-{number}").encode(), value, (("trace", b"\x00\xff"),)
        )
        letter = self._letters.letter(record, error or InvalidPrompt("it is no prompt"), stage)
        self._producer.produce(
            letter.topic, letter.value, letter.key, partition=letter.partition, headers=list(letter.headers)
        )
        assert self._producer.flush(20) == 0
        return record

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(dead_letters, list(arguments), catch_exceptions=False)

    def listed(self, *filters: str) -> list[dict[str, Any]]:
        options = [part for text in (f"tenant={self.tenant}", *filters) for part in ("--filter", text)]
        shown = self.run("list", "--json", "--limit", "1000", *options)
        assert shown.exit_code == 0, shown.output
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def replay(self, *options: str) -> dict[str, Any]:
        done = self.run("replay", "--json", "--filter", f"tenant={self.tenant}", *options)
        assert done.exit_code == 0, done.output
        outcome: dict[str, Any] = json.loads(done.stdout)
        return outcome

    def arrived(self, topic: str = PROMPTS.name) -> list[Message]:
        """Return what a reader of committed records finds of this tenant in a topic."""
        consumer = Consumer(
            {**self.kafka, "group.id": self.tenant, "enable.auto.commit": False, "enable.partition.eof": True}
        )
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(8)])
        found: list[Message] = []
        ended: set[int | None] = set()
        while len(ended) < 8:
            message = consumer.poll(0.5)
            if message is not None and message.error():
                ended.add(message.partition())
            elif message is not None and self.tenant.encode() in (message.value() or b""):
                found.append(message)
        consumer.close()
        return found


def replayed(sent: int, *, before: int) -> dict[str, Any]:
    return {"sent": sent, "sent_before": before, "refused": [], "dry_run": False}


@pytest.fixture
def box(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(bootstrap, monkeypatch)


def test_letters_are_listed_with_why_and_from_where(box: Box) -> None:
    records = [
        box.put(0, error=InvalidPrompt("too long")),
        box.put(1, stage="clustering", error=ValueError("never shown")),
        box.put(2, stage="sink-postgres", topic=PROMPTS_CANONICALIZED.name),
    ]
    rows = box.listed("after=1h")
    assert {(row["came_from"], row["stage"], row["error"], row["message"]) for row in rows} == {
        (f"prompts-0-{records[0].offset}", "moderation", "InvalidPrompt", "too long"),
        (f"prompts-1-{records[1].offset}", "clustering", "ValueError", "raised"),
        (f"prompts-canonicalized-2-{records[2].offset}", "sink-postgres", "InvalidPrompt", "it is no prompt"),
    }
    (row,) = box.listed("stage=clustering", "stage=nowhere", "error=ValueError")
    assert (row["key"], row["tenant"]) == ("key-1", box.tenant)
    assert box.listed("after=2999-01-01") == []


def test_the_table_is_bounded_and_never_shows_a_prompt(box: Box) -> None:
    for number in range(3):
        box.put(number)
    shown = box.run("list", "--filter", f"tenant={box.tenant}", "--limit", "2")
    assert len(shown.stdout.splitlines()) == 3  # titles and two letters
    assert "there are more" in shown.stderr
    assert "it is no prompt" in shown.stdout
    assert TEXT not in shown.output


def test_a_letter_is_shown_by_its_place_and_its_text_only_when_asked_for(box: Box) -> None:
    record = box.put(5)
    (listed,) = box.listed()
    for position in (listed["position"], listed["position"].removeprefix("dead-letters-"), listed["came_from"]):
        shown = box.run("show", position)
        assert (shown.exit_code, TEXT in shown.output) == (0, False)
        assert "--reveal" in shown.stdout
    revealed = box.run("show", listed["position"], "--reveal")
    assert revealed.stdout_bytes == record.value
    assert "text of a prompt" in revealed.stderr
    told = json.loads(box.run("show", listed["position"], "--reveal", "--json").stdout)
    assert base64.b64decode(told["value_base64"]) == record.value
    assert told["headers"] == {"trace": "\x00\\xff"}
    assert (told["came_from"], told["sent_back"]) == (f"prompts-5-{record.offset}", False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_replay_asks_for_the_topics_once(box: Box, *, dry_run: bool) -> None:
    class Counting(DeadLetterBox):
        asked = 0

        def _partitions(self) -> dict[str, int]:
            self.asked += 1
            return super()._partitions()

    box.put(0)
    letters = Counting(box.kafka, app_id=APP_ID)
    assert letters.replay(Filters([f"tenant={box.tenant}"], datetime.now(UTC)), dry_run=dry_run).sent == 1
    assert letters.asked == 1


def test_a_letter_goes_back_once_as_it_came(box: Box) -> None:
    records = [box.put(number) for number in range(20)]
    assert box.replay("--dry-run")["sent"] == 20
    assert box.arrived() == []
    assert box.replay("--limit", "5") == replayed(5, before=0)
    assert box.replay() == replayed(15, before=5)
    assert box.replay() == replayed(0, before=20)
    found = box.arrived()
    assert sorted((message.key(), message.value(), message.partition()) for message in found) == sorted(
        (record.key, record.value, record.partition) for record in records
    )
    assert {tuple(message.headers() or ()) for message in found} == {(("trace", b"\x00\xff"),)}
    assert all(row["sent_back"] for row in box.listed())


def test_a_letter_that_fails_again_is_a_new_letter(box: Box) -> None:
    box.put(1)
    assert box.replay()["sent"] == 1
    box.put(1)
    assert box.replay() == replayed(1, before=1)
    assert len(box.arrived()) == 2


def test_a_replay_that_was_killed_has_sent_nothing_and_one_that_was_overtaken_cannot_go_on(box: Box) -> None:
    record = box.put(3)
    earlier = Producer({**box.kafka, "transactional.id": f"{APP_ID}-dead-letters-replay"})
    earlier.init_transactions(20)
    earlier.begin_transaction()
    earlier.produce(PROMPTS.name, record.value, record.key, partition=3)
    earlier.flush(20)
    assert box.replay()["sent"] == 1
    with pytest.raises(KafkaException) as raised:
        earlier.commit_transaction(20)
    assert raised.value.args[0].fatal()
    assert len(box.arrived()) == 1


def test_nothing_is_sent_while_marks_stand_behind_a_transaction_that_hangs(box: Box) -> None:
    box.put(3)
    hanging = Producer({**box.kafka, "transactional.id": f"{box.tenant}-hangs"})
    hanging.init_transactions(20)
    hanging.begin_transaction()
    hanging.produce(DEAD_LETTERS_REPLAYED.name, b"", b"mark", partition=0)
    hanging.flush(20)
    try:
        with pytest.raises(ServiceUnavailable, match="hangs in dead-letters-replayed-0 from offset") as raised:
            box.replay()
        with pytest.raises(ServiceUnavailable, match="hangs in dead-letters-replayed-0 from offset"):
            box.replay("--dry-run")
        assert "kafka-transactions.sh abort --topic dead-letters-replayed --partition 0" in raised.value.hint
        assert not box.arrived()
    finally:
        hanging.abort_transaction(20)
    assert box.replay()["sent"] == 1


def test_a_replay_that_stops_half_way_says_how_far_it_came(box: Box) -> None:
    for _ in range(TRANSACTION_LETTERS_MAX):
        box.put(0)
    box.put(0, topic=PROMPTS_REJECTED.name, padding=2_000)  # the first of the second transaction
    narrow(box, "1000")
    try:
        stopped = CliRunner().invoke(dead_letters, ["replay", "--filter", f"tenant={box.tenant}", "--json"])
    finally:
        narrow(box, None)
    assert isinstance(stopped.exception, ServiceUnavailable)
    assert json.loads(stopped.stdout) == replayed(TRANSACTION_LETTERS_MAX, before=0)
    assert box.replay() == replayed(1, before=TRANSACTION_LETTERS_MAX)


def narrow(box: Box, bytes_max: str | None) -> None:
    """Let a topic take smaller records only; None: as before."""
    operation = AlterConfigOpType.SET if bytes_max else AlterConfigOpType.DELETE
    entry = ConfigEntry("max.message.bytes", bytes_max or "", incremental_operation=operation)
    topic = ConfigResource(ResourceType.TOPIC, PROMPTS_REJECTED.name, incremental_configs=[entry])
    admin = AdminClient(box.kafka)  # its answers end with it
    (changed,) = admin.incremental_alter_configs([topic]).values()
    changed.result()


def test_what_must_not_go_back_stays_and_says_why(box: Box) -> None:
    box.put(0, stage="sink-postgres", topic=EVOLUTION_EVENTS.name)
    box.put(1, padding=RECORD_BYTES_MAX - 200, key=box.tenant)  # what is cut no longer names its tenant
    box.put(2, topic="elsewhere")
    box.put(3, stage="sink-postgres", topic=PROMPTS_CANONICALIZED.name)
    box.put(4, stage="refinement", topic=EVOLUTION_EVENTS.name)
    outcome = box.replay()
    assert outcome["sent"] == 1
    reasons = " / ".join(sorted(refused["why"] for refused in outcome["refused"]))
    assert "its value was cut" in reasons
    assert "no stage reads elsewhere" in reasons
    assert "others than sink-postgres read evolution-events" in reasons
    assert "others than refinement read evolution-events" in reasons
    assert len(box.arrived(PROMPTS_CANONICALIZED.name)) == 1


def test_mistakes_are_said_so(box: Box) -> None:
    unknown = box.run("list", "--filter", "colour=red")
    assert unknown.exit_code == 2
    assert "'colour=red'" in unknown.stderr
    assert "stage, error, topic, tenant, key, position, after, before" in unknown.stderr
    assert "neither a date nor a time ago" in box.run("list", "--filter", "after=tomorrow").stderr
    assert "no position" in box.run("show", "seventeen").stderr
    assert "--filter NAME=VALUE, or --all" in box.run("replay").stderr
    with pytest.raises(NoSuchLetter, match="prompts-0-999999999"):
        box.run("show", "prompts-0-999999999")


def test_where_nothing_was_sent_back_yet_no_mark_is_missed(tmp_path: Path) -> None:
    with start(tmp_path / "data", load().cache_dir, postgres=False) as services:
        settings = KafkaSettings(bootstrap_servers=services.addresses.bootstrap_servers)
        older = [topic for topic in TOPICS if topic is not DEAD_LETTERS_REPLAYED]
        Admin(settings).create(older, partitions=1, replication_factor=1)
        producer = Producer(confluent_configuration(settings))
        producer.produce(DEAD_LETTERS.name, b"of another tenant")
        assert producer.flush(20) == 0  # a topic that was just made has no leader at first
        with DeadLetterBox(confluent_configuration(settings), app_id=APP_ID) as letters:
            ours = Filters(("tenant=ours",), datetime.now(UTC))
            assert letters.replay(ours, dry_run=True) == letters.replay(ours) == Replayed()


def test_a_broker_that_does_not_answer_in_time_is_said_so() -> None:
    asked: Future[int] = Future()
    with (
        pytest.raises(ServiceUnavailable, match=r"looking at 127\.0\.0\.1:1: no answer"),
        _explained("looking", {"bootstrap.servers": "127.0.0.1:1"}),
    ):
        asked.result(0)


def test_without_a_broker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises(ServiceUnavailable, match=r"looking at the topics at 127\.0\.0\.1:1"):
        CliRunner().invoke(dead_letters, ["list"], catch_exceptions=False)
