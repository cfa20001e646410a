"""A pipeline of a test's own: broker, database, a worker and a sink, and what the test can see of them.

The topics of the pipeline have fixed names, so it never shares a broker with other tests. What the test
sees is read committed: a topic holds for it what a consumer would get.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from connectors.postgres.reader import Reader, Stats
from infra import migrations
from infra.embedded import start
from infra.local import LocalPipeline, environment_of
from schemas.prompts import CanonicalizedFrame
from schemas.topics import DEAD_LETTERS, EVOLUTION_EVENTS, PROMPTS, PROMPTS_CANONICALIZED, PROMPTS_REJECTED, TOPICS
from streams.engine import frames
from streams.settings import Settings, load

PARTITIONS = 2  # few, because each costs the broker files and the worker a session; more than one, so that it matters
WITHIN_S = 90.0  # the longest any wait of these tests may take on a busy machine
POLL_INTERVAL_S = 0.05
WORKER = "worker-1"
OBSERVED = (PROMPTS_CANONICALIZED.name, EVOLUTION_EVENTS.name, PROMPTS_REJECTED.name, DEAD_LETTERS.name)

Answer = TypeVar("Answer")


class Pipeline:
    """A running pipeline. `produced` counts the records the test put into `prompts`."""

    def __init__(self, settings: Settings, local: LocalPipeline) -> None:
        self.settings = settings
        self.local = local
        self.produced = 0
        self.kafka = confluent_configuration(settings.kafka)
        self.database = psycopg.connect(settings.postgres.dsn.get_secret_value(), autocommit=True)
        self._producer = Producer(self.kafka)
        self._seen: dict[str, list[Message]] = defaultdict(list)
        self._event_ids: set[str] = set()
        self._links: set[tuple[str, str, int]] = set()
        self._observer = Consumer({**self.kafka, "group.id": "observer", "enable.auto.commit": False})
        self._observer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in OBSERVED for number in range(PARTITIONS)]
        )

    def close(self) -> None:
        self._observer.close()
        self.database.close()

    def send(
        self,
        value: bytes | Mapping[str, Any] | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
        timestamp_ms: int = 0,
    ) -> None:
        """Produce a record; a mapping goes out as JSON. A time of 0 is now."""
        data = json.dumps(value).encode() if isinstance(value, Mapping) else value
        while True:
            try:
                self._producer.produce(
                    PROMPTS.name, data, key, partition=partition, headers=list(headers), timestamp=timestamp_ms
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self.produced += 1

    def seen(self, topic: str) -> list[Message]:
        """Return what is committed in a topic, as far as it has been read."""
        while messages := self._observer.consume(500, 0.02):
            for message in messages:
                assert not message.error(), message.error()
                self._seen[str(message.topic())].append(message)
                self._note(message)
        return self._seen[topic]

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.execute(sql.encode(), values).fetchall()

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608  names of this package

    def ask(self, question: Callable[[Reader], Any]) -> Any:
        """Return the catalogue's answer to a question, as a command of the command line would get it."""

        async def answer() -> Any:
            reader = Reader(self.settings.postgres.dsn.get_secret_value())
            try:
                return await question(reader)
            finally:
                await reader.close()

        return asyncio.run(answer())

    def stats(self) -> Stats:
        found: Stats = self.ask(lambda reader: reader.stats())
        return found

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        ends_at = time.monotonic() + WITHIN_S
        while not condition():
            self.local.check()
            assert time.monotonic() < ends_at, f"{what}: not within {WITHIN_S} s\n{self.logs()[-3000:]}"
            time.sleep(POLL_INTERVAL_S)

    def settle(self) -> None:
        """Wait until every record produced has ended somewhere, and all of the topics stands in Postgres."""
        assert self._producer.flush(WITHIN_S) == 0
        self.until(lambda: self.ended() >= self.produced, what="every prompt ends somewhere")
        self.until(lambda: self.count("evolution_events") == len(self.event_ids()), what="every event is written")
        self.until(lambda: self.count("cluster_assignments") == len(self.links()), what="every link is written")

    def ended(self) -> int:
        """Return how many records have their end in Postgres or in the dead letters."""
        return self.count("prompts") + self.count("prompt_repeats") + len(self.seen(DEAD_LETTERS.name))

    def event_ids(self) -> set[str]:
        """Return the ids of the events that are committed."""
        self.seen(EVOLUTION_EVENTS.name)
        return self._event_ids

    def links(self) -> set[tuple[str, str, int]]:
        """Return (tenant, prompt, sequence) of the assignments in the topic the sinks read."""
        self.seen(PROMPTS_CANONICALIZED.name)
        return self._links

    def _note(self, message: Message) -> None:
        topic, value = message.topic(), message.value() or b""
        if topic == EVOLUTION_EVENTS.name:
            self._event_ids.add(json.loads(value)["event_id"])
        if topic == PROMPTS_CANONICALIZED.name:
            decided = [item.assignment for item in frames.decode(CanonicalizedFrame, value).prompts]
            self._links |= {
                (link.prompt.tenant, link.prompt.prompt_id, link.sequence) for link in decided if not link.duplicate
            }

    def logs(self) -> str:
        return "\n".join(self.local.log(name).read_text(errors="replace") for name in (WORKER, "sink"))

    def metric(self, name: str) -> dict[str, float]:
        """Return the samples of one of the worker's counters by the value of its first label."""
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in text_string_to_metric_families(httpx.get(self.url("/metrics")).text)
            for sample in family.samples
            if sample.name == f"promptloom_{name}_total"
        }

    def url(self, path: str) -> str:
        """Return the address of a page of the worker's health server."""
        lines = [json.loads(line) for line in self.local.log(WORKER).read_text().splitlines() if line.startswith("{")]
        metrics: str = next(line["metrics"] for line in reversed(lines) if "metrics" in line)
        return metrics.removesuffix("/metrics") + path

    def unready(self) -> dict[str, str]:
        """Return by place why the worker's work does not move; empty = it is ready."""
        answer = httpx.get(self.url("/ready"))
        reasons: dict[str, str] = answer.json()["reasons"]
        assert (answer.status_code == httpx.codes.OK) == (not reasons)
        return reasons


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Pipeline]:
    """Start services, worker and sink in a folder; all of them end with the context."""
    with start(folder / "data", load().cache_dir) as services:
        found = services.addresses
        defaults = load()
        settings = load(
            data_dir=folder / "data",
            kafka=defaults.kafka.model_copy(
                update={"bootstrap_servers": found.bootstrap_servers, "partitions": PARTITIONS}
            ),
            postgres={"dsn": found.postgres_dsn},
        )
        overrides = {
            "PROMPTLOOM_KAFKA__PARTITIONS": str(PARTITIONS),
            "PROMPTLOOM_QDRANT__ENABLED": "false",  # its sink is tested for itself, and local Qdrant is slow
            "PROMPTLOOM_ENGINE__SESSION_TIMEOUT_S": "6",  # the least: how long a killed worker is waited for
            **environment,
        }
        # So that the test can look at topics and tables before the children have made them.
        Admin(settings.kafka).create(TOPICS, partitions=PARTITIONS, replication_factor=1)
        migrations.upgrade(found.postgres_dsn)
        with LocalPipeline(environment_of(settings, **overrides), folder / "logs") as local:
            pipeline = Pipeline(settings, local)
            try:
                yield pipeline
            finally:
                pipeline.close()
