"""Replay against a real broker: nothing lost, nothing stopped by a bad line, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from connectors.dataset import find, sha256_of
from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from schemas.errors import ServiceUnavailable
from schemas.ids import prompt_id_of_line
from schemas.topics import DAY_MS, Topic
from streams.engine.partitioning import partition_of
from streams.prompts.replay import FileProgress, Options, Summary, replay
from streams.settings import KafkaSettings

pytestmark = pytest.mark.kafka

PARTITIONS = 3
STOPPED_WITHIN_S = 30


class Desk:
    """A topic of the test's own, a folder of files, and what a replay needs."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap)
        self.topic = f"prompts-{uuid.uuid4().hex}"
        self.folder = folder
        self.report = folder / "state" / "bad.jsonl"
        topic = Topic(self.topic, "tenant", "JSON", True, DAY_MS)
        Admin(self.kafka).create([topic], partitions=PARTITIONS, replication_factor=1)

    def write(self, name: str, rows: list[Any]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    def replay(self, path: Path, **options: Any) -> Summary:
        return replay(
            find(path),
            confluent_configuration(self.kafka),
            folder=self.folder / "state",
            report=self.report,
            options=Options(topic=self.topic, **options),
        )

    def records(self) -> list[Message]:
        """Return everything in the topic."""
        consumer = Consumer(
            confluent_configuration(self.kafka)
            | {"group.id": "test", "enable.auto.commit": False, "enable.partition.eof": True}
        )
        consumer.assign([TopicPartition(self.topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        found: list[Message] = []
        ended = 0
        while ended < PARTITIONS:
            message = consumer.poll(10)
            assert message is not None, "the broker stopped answering"
            if message.error():
                ended += 1
            else:
                found.append(message)
        consumer.close()
        return found

    def texts(self) -> Counter[str]:
        return Counter(json.loads(message.value())["text"] for message in self.records())

    def child(self, path: Path, **options: Any) -> subprocess.Popen[str]:
        """Start a replay in a process of its own, which prints a line once the broker has acknowledged some."""
        program = (
            "import sys, json\n"
            "from pathlib import Path\n"
            "from connectors.dataset import find\n"
            "from streams.prompts.replay import Options, replay\n"
            "path, config, folder, options = sys.argv[1:]\n"
            "tell = lambda progress: progress.prompts and print(progress.prompts, flush=True)\n"
            "folder, options = Path(folder), Options(**json.loads(options))\n"
            "summary = replay(find(Path(path)), json.loads(config),\n"
            "    folder=folder, report=folder / 'bad.jsonl', options=options, on_progress=tell)\n"
            "print('interrupted' if summary.interrupted else 'done', flush=True)\n"
        )
        arguments = [str(path), json.dumps(confluent_configuration(self.kafka)), str(self.folder / "state")]
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments, json.dumps({"topic": self.topic, **options})],
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def desk(bootstrap: str, tmp_path: Path) -> Desk:
    return Desk(bootstrap, tmp_path)


def test_a_prompt_arrives_with_its_tenant_id_and_headers(desk: Desk) -> None:
    rows: list[Any] = [
        {"text": "one", "id": "mine", "tenant": "acme", "created_at": "2026-03-01T08:00:00Z"},
        {"text": "two", "tenant": "zürich"},
        {"text": "three", "id": 17},
    ]
    path = desk.write("a.jsonl", rows)
    summary = desk.replay(path)
    assert (summary.sent, summary.bad, summary.interrupted) == (3, 0, False)

    found = {json.loads(message.value())["text"]: message for message in desk.records()}
    (file,) = find(path)
    identities = {"one": "mine", "two": prompt_id_of_line(sha256_of(file), 2), "three": "17"}
    tenants = {"one": "acme", "two": "zürich", "three": "default"}
    for text, message in found.items():
        value, headers = json.loads(message.value()), dict(message.headers() or [])
        assert value["id"] == identities[text]
        assert value["tenant"] == tenants[text] == message.key().decode()
        assert value["source"] == "a.jsonl"
        assert message.partition() == partition_of(tenants[text], PARTITIONS)
        assert headers["ce_id"].decode() == identities[text]
        assert headers["ce_type"] == b"promptloom.prompt.submitted.v1"
    assert dict(found["one"].headers() or [])["ce_time"] == b"2026-03-01T08:00:00.000Z"


def test_bad_lines_are_counted_and_reported_and_stop_nothing(desk: Desk) -> None:
    secret = "sk-live-51Habcdefghijklmnop0123456789"
    rows: list[Any] = [
        {"text": "good one"},
        f"not json {secret} ada@example.org",
        {"text": "   "},
        {"no": "text"},
        {"text": "x" * (256 * 1024 + 1)},
        {"text": "x", "usage": {"prompt_tokens": -1}},
        {"text": "x", "messages": [{"role": "user", "content": "y"}]},
        {"text": "good two"},
    ]
    path = desk.write("a.jsonl", rows)
    summary = desk.replay(path)
    assert (summary.sent, summary.bad, summary.bad_reported) == (2, 6, 6)
    assert desk.texts() == Counter({"good one": 1, "good two": 1})
    report = [json.loads(line) for line in desk.report.read_text().splitlines()]
    assert [row["line"] for row in report] == [2, 3, 4, 5, 6, 7]
    assert all(row["file"] == str(path) and row["reason"] and len(row["excerpt"]) <= 80 for row in report)
    assert "sk-live" not in desk.report.read_text()
    assert "ada@" not in desk.report.read_text()


def test_one_tenant_may_be_given_to_all(desk: Desk) -> None:
    desk.replay(desk.write("a.jsonl", [{"text": "one", "tenant": "acme"}, {"text": "two"}]), tenant="lab")
    assert {message.key() for message in desk.records()} == {b"lab"}


def test_a_limit_ends_a_replay_and_resuming_sends_the_rest_once(desk: Desk) -> None:
    path = desk.write("a.jsonl", [{"text": f"prompt {number}"} for number in range(10)])
    assert [desk.replay(path, resume=True, limit=4).sent for _ in range(4)] == [4, 4, 2, 0]
    assert desk.texts() == Counter(f"prompt {number}" for number in range(10))


def test_without_resume_everything_is_sent_again_under_the_same_ids(desk: Desk) -> None:
    path = desk.write("a.txt", ["one", "two"])
    desk.replay(path)
    desk.replay(path)
    identities = Counter(json.loads(message.value())["id"] for message in desk.records())
    assert sorted(identities.values()) == [2, 2]


def test_a_file_that_changed_starts_anew(desk: Desk) -> None:
    desk.replay(desk.write("a.txt", ["one", "two"]))
    assert desk.replay(desk.write("a.txt", ["one", "two", "three"]), resume=True).sent == 3


def test_a_killed_replay_goes_on_with_nothing_lost(desk: Desk) -> None:
    rows = 3_000
    path = desk.write("a.jsonl", [{"text": f"prompt {number}"} for number in range(rows)])
    child = desk.child(path, rate=700)
    assert child.stdout is not None
    # Acknowledgements seen several times, so that a checkpoint has been written in between.
    for _ in range(9):
        assert child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    before = sum(desk.texts().values())
    assert 0 < before < rows

    summary = desk.replay(path, resume=True)
    assert 0 < summary.sent < rows, "it started anew, or there was nothing left"
    assert set(desk.texts()) == {f"prompt {number}" for number in range(rows)}
    assert [file.prompts for file in summary.files] == [rows]
    assert desk.replay(path, resume=True).sent == 0


def test_ctrl_c_ends_a_replay_cleanly_and_resuming_sends_only_the_rest(desk: Desk) -> None:
    rows = 2_000
    path = desk.write("a.jsonl", [{"text": f"prompt {number}"} for number in range(rows)])
    child = desk.child(path, rate=500)
    assert child.stdout is not None
    assert child.stdout.readline()
    child.send_signal(signal.SIGINT)
    output = child.stdout.read()
    assert child.wait(STOPPED_WITHIN_S) == 0
    assert output.splitlines()[-1] == "interrupted"
    child.stdout.close()
    desk.replay(path, resume=True)
    assert desk.texts() == Counter(f"prompt {number}" for number in range(rows))


def test_a_rate_is_kept(desk: Desk) -> None:
    path = desk.write("a.txt", [f"prompt {number}" for number in range(60)])
    # Sixty prompts at 100 a second cannot take less than 59 intervals of 10 ms.
    assert desk.replay(path, rate=100).seconds >= 0.59


def test_progress_ends_with_the_whole_file_read_and_acknowledged(desk: Desk) -> None:
    path = desk.write("a.txt", ["one", "", "two"])
    told: list[FileProgress] = []
    replay(
        find(path),
        confluent_configuration(desk.kafka),
        folder=desk.folder / "state",
        report=desk.report,
        options=Options(topic=desk.topic),
        on_progress=told.append,
    )
    assert told[-1].complete
    assert (told[-1].prompts, told[-1].bytes_read) == (2, path.stat().st_size)
    assert not desk.report.exists()


def test_a_topic_that_is_not_there_is_named_with_what_makes_it(desk: Desk) -> None:
    path = desk.write("a.txt", ["one"])
    desk.topic = "prompts-nobody-made"
    with pytest.raises(ServiceUnavailable, match="prompts-nobody-made") as caught:
        desk.replay(path)
    assert "topics create" in caught.value.hint


def test_the_command_shows_what_it_sent_and_what_was_bad(bootstrap: str, tmp_path: Path) -> None:
    Admin(KafkaSettings(bootstrap_servers=bootstrap)).create(
        [Topic("prompts", "tenant", "JSON", True, DAY_MS)], partitions=8, replication_factor=1
    )
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n{broken\n')
    environment = {
        **os.environ,
        "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "PROMPTLOOM_DATA_DIR": str(tmp_path / "data"),
    }
    command = [sys.executable, "-m", "streams.cli", "replay", str(tmp_path), "--tenant", uuid.uuid4().hex]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 prompts in" in done.stdout
    assert "1 bad lines" in done.stdout
    assert "promptloom tail" in done.stdout
    (report,) = (tmp_path / "data" / "replay").glob("bad-lines-*.jsonl")
    assert json.loads(report.read_text())["line"] == 2


def test_no_broker_is_one_clear_message(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(ServiceUnavailable, match="no Kafka broker answers") as caught:
        replay(
            find(tmp_path / "a.txt"),
            confluent_configuration(KafkaSettings(bootstrap_servers=address)),
            folder=tmp_path,
            report=tmp_path / "bad.jsonl",
        )
    assert "promptloom up" in caught.value.hint
