"""Prompts of the dataset, from invented tenants, sent at a steady rate while faults happen.

Each tenant sends a stretch of one of the dataset's files, so that templates form and change as in the real
thing. In between comes what a careless world sends: a record twice, an id for another text, bytes that are no
prompt, texts that some workers stumble over, a tenant whose every prompt is rejected, and one whose producer does
not know about partitions.

The producer is idempotent and patient: what it was given arrives once, however long the broker is away.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.dataset import PromptFile, Row, find, read, sha256_of, shipped
from schemas.topics import PROMPTS
from streams.engine.partitioning import partition_of
from streams.prompts.replay_records import Outgoing, record_of
from tests.chaos.poison import TEXTS

STRICT = "strict"  # its every prompt is rejected: the scenario's settings say so
SCATTERED = "scattered"  # its records go to any partition
TENANTS_PER_PARTITION = 2
SHARE_STRICT, SHARE_SCATTERED = 0.04, 0.05
SHARE_REPEATED, SHARE_CONFLICTING, SHARE_POISONOUS, SHARE_BROKEN = 0.02, 0.005, 0.005, 0.005
REPEATABLE = 200  # a repeat is of one of the last so many prompts of its tenant
NUMBER_HEADER = "chaos"  # counts the records sent, so that each can be found exactly once
DELIVERY_TIMEOUT_MS = 300_000  # the broker is never away that long
ROWS_MAX = 1_500  # of each file
FLUSH_S = 120.0


@dataclass(frozen=True, slots=True)
class Submission:
    """One record for `prompts`."""

    value: bytes
    key: bytes
    partition: int


class Load:
    """Sends from `start` to `stop`. `offsets` holds the last acknowledged offset by partition."""

    def __init__(self, connection: Mapping[str, Any], partitions: int, seed: int, per_second: float) -> None:
        self.sent = 0
        self.offsets: dict[int, int] = {}
        self.failures: list[str] = []
        self._per_second = per_second
        self._submissions = submissions(partitions, random.Random(f"load {seed}"))
        self._over = threading.Event()
        self._producer = Producer(
            {
                **connection,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": DELIVERY_TIMEOUT_MS,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop sending and wait until everything is acknowledged."""
        self._over.set()
        self._thread.join()
        if left := self._producer.flush(FLUSH_S):
            self.failures.append(f"{left} records were never acknowledged")

    def _run(self) -> None:
        started_at = time.monotonic()
        while not self._over.is_set():
            submission = next(self._submissions)
            self._producer.produce(
                PROMPTS.name,
                submission.value,
                submission.key,
                submission.partition,
                on_delivery=self._delivered,
                headers=[(NUMBER_HEADER, b"%d" % self.sent)],
            )
            self.sent += 1
            self._producer.poll(0)
            self._over.wait(max(0.0, started_at + self.sent / self._per_second - time.monotonic()))

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(str(KafkaException(error)))
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        if offset is None:
            return  # the answer to the first attempt was lost, and a broker tells a duplicate no offset
        self.offsets[partition] = max(offset, self.offsets.get(partition, -1))


def submissions(partitions: int, chance: random.Random) -> Iterator[Submission]:
    """Yield records without end, the same for the same chance."""
    files = [list(_rows(file)) for file in find(shipped())]
    callers = [_Caller(name, chance.choice(files), chance) for name in tenants(partitions)]
    strict, scattered = (_Caller(name, chance.choice(files), chance) for name in (STRICT, SCATTERED))
    while True:
        luck = chance.random()
        if luck < SHARE_BROKEN:
            yield Submission(b"\x00not a prompt %d" % chance.getrandbits(32), b"", chance.randrange(partitions))
            continue
        if luck < SHARE_BROKEN + SHARE_SCATTERED:
            caller, partition = scattered, chance.randrange(partitions)
        else:
            caller = strict if luck < SHARE_BROKEN + SHARE_SCATTERED + SHARE_STRICT else chance.choice(callers)
            partition = partition_of(caller.name, partitions)
        yield Submission(caller.next(), caller.name.encode(), partition)


def tenants(partitions: int) -> list[str]:
    """Return names of tenants that cover every partition."""
    found: dict[int, list[str]] = {number: [] for number in range(partitions)}
    number = 0
    while any(len(names) < TENANTS_PER_PARTITION for names in found.values()):
        name = f"tenant-{number}"
        names = found[partition_of(name, partitions)]
        if len(names) < TENANTS_PER_PARTITION:
            names.append(name)
        number += 1
    return sorted(name for names in found.values() for name in names)


class _Caller:
    """One tenant: goes through its rows in order, from a place of its own, and around."""

    def __init__(self, name: str, rows: Sequence[Mapping[str, Any]], chance: random.Random) -> None:
        self.name = name
        self._rows = rows
        self._at = chance.randrange(len(rows))
        self._chance = chance
        self._number = 0
        self._recent: list[dict[str, Any]] = []

    def next(self) -> bytes:
        luck = self._chance.random()
        if self._recent and luck < SHARE_REPEATED:
            return orjson.dumps(self._chance.choice(self._recent))
        row = self._rows[(self._at + self._number) % len(self._rows)]
        fields = {**row, "tenant": self.name, "id": f"{self.name}-{self._number}"}
        self._number += 1
        luck -= SHARE_REPEATED
        if self._recent and luck < SHARE_CONFLICTING:
            return orjson.dumps({**fields, "id": self._chance.choice(self._recent)["id"]})
        if luck < SHARE_CONFLICTING + SHARE_POISONOUS:
            fields = {**fields, "messages": None, "text": f"{self._chance.choice(TEXTS)}, {self._number}."}
        self._recent = [*self._recent[1 - REPEATABLE :], fields]
        return orjson.dumps(fields)


def _rows(file: PromptFile) -> Iterator[dict[str, Any]]:
    sha256 = sha256_of(file)
    for row in islice(read(file), ROWS_MAX):
        outgoing = record_of(row, file, sha256) if isinstance(row, Row) else None
        if isinstance(outgoing, Outgoing):
            yield orjson.loads(outgoing.value)
