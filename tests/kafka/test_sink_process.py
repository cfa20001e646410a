"""`promptloom sink` as a process, on a real broker and database: killed in the middle, it loses and doubles nothing.

The broker is shared, so the test has a tenant of its own and looks at that one only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from connectors.embedders import EMBEDDERS
from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from connectors.postgres.connection import APPLICATION_NAME
from connectors.qdrant.sink import QdrantSink
from infra import migrations
from schemas.ids import template_id
from schemas.topics import DEAD_LETTERS, PARTITIONS_DEFAULT, PROMPTS_CANONICALIZED, TOPICS
from streams.engine.ports import Record
from streams.prompts import qdrant_points
from streams.settings import KafkaSettings
from tests.sink_records import (
    A,
    a_link,
    a_prompt,
    a_rejection,
    a_version,
    an_event,
    embedded_record,
    event_record,
    frame_record,
    rejection_record,
)

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

PROMPTS = 8_000
FRAME_PROMPTS = 20  # small frames make many batches, so that a kill hits between and inside them
WITHIN_S = 60.0
WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND application_name = %s"
)


class Stage:
    """A broker with all topics, a database, and sink processes between them."""

    def __init__(self, bootstrap: str, dsn: str, folder: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap)
        self.dsn = dsn
        self.folder = folder
        self.tenant = f"tenant-{uuid.uuid4().hex}"
        self.processes: list[subprocess.Popen[bytes]] = []
        Admin(self.kafka).create(TOPICS, partitions=PARTITIONS_DEFAULT, replication_factor=1)
        migrations.upgrade(dsn)
        self.connection = psycopg.connect(dsn, autocommit=True)

    def produce(self, records: Sequence[Record]) -> None:
        producer = Producer(confluent_configuration(self.kafka))
        for record in records:
            producer.produce(record.topic, record.value, record.key, partition=record.partition)
        assert producer.flush(WITHIN_S) == 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "PROMPTLOOM_POSTGRES__DSN": self.dsn,
            "PROMPTLOOM_DATA_DIR": str(self.folder),
        }
        with (self.folder / "sink.log").open("ab") as log:
            command = [sys.executable, "-m", "streams.cli", "sink", *arguments]
            self.processes.append(subprocess.Popen(command, env=environment, stderr=log))
        return self.processes[-1]

    def count(self, query: str, *values: object) -> int:
        row = self.connection.execute(query, values).fetchone()
        assert row is not None
        return int(row[0])

    def written(self, table: str = "prompts") -> int:
        return self.count(f"SELECT count(*) FROM {table} WHERE tenant = %s", self.tenant)  # noqa: S608  own names

    def until(self, condition: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < ends_at, (self.folder / "sink.log").read_text()[-3000:]
            time.sleep(0.02)

    def metrics(self) -> str:
        """Return what the newest process tells Prometheus; '' before it listens."""
        announced = re.findall(r"metrics at (http\S+)", (self.folder / "sink.log").read_text())
        return httpx.get(announced[-1]).text if announced else ""

    def dead_letters(self) -> list[Message]:
        reader = Consumer({**confluent_configuration(self.kafka), "group.id": uuid.uuid4().hex})
        reader.assign(
            [TopicPartition(DEAD_LETTERS.name, number, OFFSET_BEGINNING) for number in range(PARTITIONS_DEFAULT)]
        )
        found = []
        while message := reader.poll(3):
            found.append(message)
        reader.close()
        return found


@pytest.fixture
def stage(bootstrap: str, postgres_dsn: str, tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(bootstrap, postgres_dsn, tmp_path)
    yield opened
    opened.connection.close()
    for process in opened.processes:
        process.kill()
        process.wait()


def links(tenant: str, size: int, first: int = 0) -> list[Record]:
    """Return first links of prompts in frames, and moves of every third, over all partitions."""
    numbers = range(first, first + size)
    prompts = [a_prompt(number, prompt_id=f"{tenant}-{number}", tenant=tenant) for number in numbers]
    records = []
    for start in range(0, size, FRAME_PROMPTS):
        partition = start // FRAME_PROMPTS % PARTITIONS_DEFAULT
        members = prompts[start : start + FRAME_PROMPTS]
        records.append(frame_record(0, *(a_link(prompt, None) for prompt in members), partition=partition))
        records.append(frame_record(0, *(a_link(prompt, A, 1) for prompt in members[::3]), partition=partition))
    return records


def traffic(tenant: str, size: int) -> list[Record]:
    """Return links, one event and ten rejections."""
    event = an_event(a_version(tenant=tenant), tenant=tenant, event_id=str(uuid.uuid4()))
    rejections = [a_rejection(size + number, tenant=tenant, offset=10**9 + number) for number in range(10)]
    rejected = [rejection_record(0, rejection) for rejection in rejections]
    return [*links(tenant, size), event_record(0, event), *rejected]


def moved(size: int) -> int:
    return sum(len(range(start, min(start + FRAME_PROMPTS, size), 3)) for start in range(0, size, FRAME_PROMPTS))


# First, because local Qdrant takes a millisecond for each prompt the other tests leave in the topics.
async def test_both_sinks_run_in_one_process(stage: Stage) -> None:
    # The embedder of the other tests on this broker: a collection holds the vectors of one only.
    embedder = EMBEDDERS["wordllama"]()
    prompts = [a_prompt(number, prompt_id=f"{stage.tenant}-{number}", tenant=stage.tenant) for number in range(3)]
    vectors = await embedder.embed([prompt.text for prompt in prompts])
    place = 5
    embedded = embedded_record(0, *prompts, vectors=vectors.tolist(), embedder=embedder.name, partition=place)
    stage.produce([embedded, frame_record(0, *(a_link(prompt, A) for prompt in prompts), partition=place)])
    sink = stage.start()
    for topic in qdrant_points.TOPICS:
        caught_up = f'promptloom_sink_lag_records{{partition="{place}",sink="sink-qdrant",topic="{topic}"}} 0.0'
        stage.until(lambda line=caught_up: line in stage.metrics())  # type: ignore[misc]
    stage.until(lambda: stage.written() == 3)
    sink.terminate()
    assert sink.wait(WITHIN_S) == 0
    qdrant = QdrantSink(embedder.name, embedder.dimension, path=stage.folder / "qdrant")
    found = await qdrant.similar(vectors[1].tolist(), tenant=stage.tenant)
    await qdrant.close()
    assert found[0].prompt_id == prompts[1].prompt_id
    assert {(item.cluster_id, item.template_id) for item in found} == {(A, template_id(A, "1.0.0"))}


def test_killed_between_two_statements_of_a_batch_and_started_again_it_writes_each_row_once(stage: Stage) -> None:
    stage.produce(traffic(stage.tenant, 100))
    with psycopg.connect(stage.dsn) as blocker:
        # Offsets and prompts are written by then, assignments are not: the middle of a batch.
        blocker.execute("LOCK TABLE cluster_assignments IN ACCESS EXCLUSIVE MODE")
        sink = stage.start("--only", "postgres")
        stage.until(lambda: stage.count(WAITS_FOR_A_LOCK, APPLICATION_NAME) == 1)
        sink.send_signal(signal.SIGKILL)
        sink.wait()
    stage.until(lambda: stage.count(WAITS_FOR_A_LOCK, APPLICATION_NAME) == 0)
    assert (stage.written(), stage.count("SELECT count(*) FROM sink_offsets")) == (0, 0)
    again = stage.start("--only", "postgres")
    stage.until(lambda: stage.written() == 110 and stage.written("evolution_events") == 1)
    again.terminate()
    assert again.wait(WITHIN_S) == 0
    assert stage.written("cluster_assignments") == 100 + moved(100)


def test_killed_again_and_again_it_ends_with_the_rows_of_one_undisturbed_run(stage: Stage) -> None:
    stage.produce(traffic(stage.tenant, PROMPTS))
    for share in (0.05, 0.4, 0.8):
        sink = stage.start("--only", "postgres")
        stage.until(lambda share=share: stage.written() >= share * PROMPTS)  # type: ignore[misc]
        sink.kill()
        sink.wait()
    sink = stage.start("--only", "postgres")
    stage.produce(links(stage.tenant, FRAME_PROMPTS, first=2 * PROMPTS))
    prompts, moves = PROMPTS + FRAME_PROMPTS, moved(PROMPTS) + moved(FRAME_PROMPTS)
    stage.until(lambda: stage.written("cluster_assignments") == prompts + moves)
    stage.until(lambda: stage.written() == prompts + 10 and stage.written("evolution_events") == 1)
    sink.terminate()
    assert sink.wait(WITHIN_S) == 0
    current = "SELECT count(*) FROM cluster_assignments WHERE tenant = %s AND current"
    assert stage.count(current, stage.tenant) == prompts
    assert stage.count(current + " AND sequence = 1", stage.tenant) == moves
    assert stage.written("prompt_repeats") == 0


def test_a_broken_record_goes_to_the_dead_letters(stage: Stage) -> None:
    broken = f"no frame, {stage.tenant}".encode()
    stage.produce([Record(PROMPTS_CANONICALIZED.name, 3, 0, 0, b"key", broken), *traffic(stage.tenant, 10)])
    sink = stage.start("--only", "postgres")
    # Both: the rows stand in other partitions, which may be written before the broken record is read.
    stage.until(lambda: stage.written() == 20 and any(letter.value() == broken for letter in stage.dead_letters()))
    sink.terminate()
    assert sink.wait(WITHIN_S) == 0
    letters = [message for message in stage.dead_letters() if message.value() == broken]
    headers: dict[str, Any] = dict(letters[0].headers() or [])
    assert headers["__promptloom.errors.stage"] == b"sink-postgres"
    assert headers["__promptloom.errors.exception"] == b"UndecodableRecord"
    assert headers["__promptloom.errors.topic"] == PROMPTS_CANONICALIZED.name.encode()
