"""Two chained stages with a table each, and what must be true of their output. Also runs as a worker process.

    in --one [first]--> mid --two [second]--> out        poison ids go to the dead letters

Each stage numbers the records of a key. So a record that is lost, doubled or out of order in any stage
shows in the numbers: those of a key are 1, 2, 3, ... in `out`, and the tables end at the count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from schemas.topics import Topic
from streams.engine.engine import Engine
from streams.engine.ports import Unit
from streams.engine.settings import EngineSettings
from streams.settings import KafkaSettings

PARTITIONS = 4
KEYS = 50
ROOT = Path(__file__).parent.parent.parent
WAIT_SECONDS_MAX = 60.0


@dataclass
class Chain:
    """The names and clients of one test's own topics."""

    bootstrap: str
    run: str = field(default_factory=lambda: f"chain-{uuid.uuid4().hex[:8]}")
    unit_pause_s: float = 0.0
    instance: str = ""  # static membership
    state_folder: str = ""  # state is kept on disk where there is one
    replicas: int = 1

    def __post_init__(self) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=self.bootstrap, partitions=PARTITIONS)

    def topic(self, name: str) -> str:
        return f"{self.run}-{name}"

    def bare_engine(self) -> Engine:
        """Return an engine with nothing attached."""
        settings = EngineSettings(
            app_id=self.run,
            group_instance_id=self.instance,
            session_timeout_s=6.0,
            store="rocksdb" if self.state_folder else "memory",
        )
        return Engine(
            settings,
            aiokafka_configuration(self.kafka),
            partitions=PARTITIONS,
            state_folder=Path(self.state_folder) / "state" if self.state_folder else None,
            dead_letters=self.topic("dead-letters"),
        )

    def engine(self) -> Engine:
        """Return the engine with both stages attached."""
        engine = self.bare_engine()
        self._attach(engine, "one", "in", "mid", "first")
        self._attach(engine, "two", "mid", "out", "second")
        return engine

    def _attach(self, engine: Engine, stage: str, source: str, target: str, table: str) -> None:
        counts = engine.table(table, owner=self.topic(source))

        async def number(unit: Unit) -> None:
            for record in unit.records:
                entry = orjson.loads(record.value or b"")
                key = entry["key"]
                count = int(counts.get(key) or b"0") + 1
                counts.put(key, b"%d" % count)
                value = orjson.dumps(entry | {stage: count})
                unit.send(self.topic(target), value, partition=unit.partition, key=key.encode())
            await asyncio.sleep(self.unit_pause_s)

        engine.stage(stage, self.topic(source), number)

    def create_topics(self, engine: Engine) -> None:
        topics = [
            Topic(self.topic(name), "key", "entry", public=False, retention_ms=-1)
            for name in ("in", "mid", "out", "dead-letters")
        ]
        Admin(self.kafka).create(
            [*topics, *engine.changelog_topics()], partitions=PARTITIONS, replication_factor=self.replicas
        )

    def worker(self, instance: str = "") -> subprocess.Popen[bytes]:
        """Start a worker process on the same topics."""
        arguments = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        arguments += [self.bootstrap, self.run, str(self.unit_pause_s), instance, self.state_folder]
        return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def produce(self, ids: Iterable[int], per_second: float | None = None) -> None:
        """Write entries to `in`, by key; paced where asked."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": True})
        started_at = time.monotonic()
        for count, number in enumerate(ids):
            key = f"k{number % KEYS}"
            value = orjson.dumps({"id": number, "key": key})
            producer.produce(self.topic("in"), value, key=key, partition=number % KEYS % PARTITIONS)
            if per_second and not count % 50:
                producer.flush()
                time.sleep(max(0.0, started_at + count / per_second - time.monotonic()))
        producer.flush()

    def read(self, name: str, *, enough: Callable[[list[Message]], bool] | None = None) -> list[Message]:
        """Return what a reader of committed records sees: to the end, or until it is enough."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.run}-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        consumer.assign([TopicPartition(self.topic(name), partition, 0) for partition in range(PARTITIONS)])
        found: list[Message] = []
        ended: set[int | None] = set()
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        try:
            while time.monotonic() < deadline:
                for message in consumer.consume(1_000, 0.1):
                    if message.error():
                        ended.add(message.partition())
                    else:
                        found.append(message)
                if enough(found) if enough else len(ended) == PARTITIONS:
                    return found
        finally:
            consumer.close()
        raise TimeoutError(f"{name} has {len(found)} records, which is not enough")

    def output(self, count: int) -> list[dict[str, int]]:
        """Wait until `count` distinct ids came out; return every entry, repeats included."""

        def complete(messages: Sequence[Message]) -> bool:
            return len({orjson.loads(message.value() or b"")["id"] for message in messages}) >= count

        self.read("out", enough=complete)
        return [orjson.loads(message.value() or b"") for message in self.read("out")]

    def rows(self, table: str) -> dict[str, int]:
        """Return a table as its changelog has it."""
        rows: dict[str, int] = {}
        for message in self.read(f"{table}-changelog"):
            key = (message.key() or b"").decode()
            value = message.value()
            assert value is not None
            rows[key] = int(value)
        return rows

    def assert_exactly_once(self, ids: Iterable[int]) -> None:
        """Check that nothing is lost, doubled or numbered wrongly, in `out` and in both tables."""
        wanted = list(ids)
        expected = Counter(f"k{number % KEYS}" for number in wanted)
        entries = self.output(len(wanted))
        assert sorted(entry["id"] for entry in entries) == sorted(wanted)
        for stage in ("one", "two"):
            numbers = defaultdict(list)
            for entry in entries:
                numbers[entry["key"]].append(entry[stage])
            assert numbers == {key: list(range(1, count + 1)) for key, count in expected.items()}
        for table in ("first", "second"):
            assert self.rows(table) == dict(expected)


async def until(condition: Callable[[], bool], seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Wait for something that the code under test does in its own time."""
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110  the engine has no event for what tests look at
            await asyncio.sleep(0.02)


def end(worker: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal and return the exit code."""
    worker.send_signal(number)
    return worker.wait(timeout=30)


if __name__ == "__main__":
    bootstrap, run, pause, instance, state_folder = sys.argv[1:]
    if os.environ.get("CHAIN_LOG"):
        logging.basicConfig(
            level=logging.INFO,
            filename=os.environ["CHAIN_LOG"],
            format=f"%(asctime)s {os.getpid()} %(name)s %(message)s %(error)s",
        )
    Chain(bootstrap, run, float(pause), instance, state_folder).engine().run()
