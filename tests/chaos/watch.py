"""Look at the outputs while faults happen: when did every partition go on after a fault?

Two ends are watched. The stream: what is committed in the topics behind the last stages. The catalogue: the rows
in Postgres. A partition has gone on when it shows a prompt that came into `prompts` after the fault. So the figure
holds everything: to notice the loss, to hand the partition over, to restore its tables, to work off what waited.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from schemas.prompts import CanonicalizedFrame
from schemas.topics import DEAD_LETTERS, ERROR_HEADER_PREFIX, PROMPTS_CANONICALIZED, PROMPTS_REJECTED
from streams.engine import frames

Side = Literal["stream", "catalogue"]
Place = tuple[int, int]  # partition and offset of a record in `prompts`

POLL_S = 0.1
CATALOGUE_POLL_S = 0.3
CONNECT_TIMEOUT_S = 2
NEWEST = "SELECT prompt_partition, max(prompt_offset) FROM prompts GROUP BY prompt_partition"


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: what happened later is told from what happened before by the offsets of `prompts`."""

    at: float  # monotonic
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Sight:
    """An output partition showed the end of a prompt."""

    at: float
    source: Place


class Watch:
    """Follows the outputs in threads of its own, and bears that the services are away."""

    def __init__(self, connection: Mapping[str, Any], dsn: str, partitions: int) -> None:
        self.settled: set[Place] = set()  # records of `prompts` whose end was seen, letters of later stages included
        self._connection = connection
        self._dsn = dsn
        self._partitions = partitions
        self._sights: dict[Side, dict[int, list[Sight]]] = {"stream": defaultdict(list), "catalogue": defaultdict(list)}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._stream, self._catalogue)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Look no more; what was seen stays."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def recovered_at(self, side: Side, mark: Mark) -> float | None:
        """Return when the last partition went on after the mark; None = some did not yet."""
        moments = []
        for partition in range(self._partitions):
            sights = self._sights[side][partition]
            later = (sight.at for sight in sights if sight.at > mark.at and _after(sight.source, mark.offsets))
            moment = next(later, None)
            if moment is None:
                return None
            moments.append(moment)
        return max(moments)

    def _stream(self) -> None:
        consumer = Consumer({**self._connection, "group.id": "chaos-watch", "isolation.level": "read_committed"})
        topics = (PROMPTS_CANONICALIZED.name, PROMPTS_REJECTED.name, DEAD_LETTERS.name)
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in range(self._partitions)]
        )
        while not self._over.is_set():
            for message in consumer.consume(500, POLL_S):
                if not message.error():  # a broker that is away is what this is about
                    self._note(message)
        consumer.close()

    def _note(self, message: Message) -> None:
        places = set(sources_of(str(message.topic()), message.value() or b"", message.headers() or ()))
        self.settled |= places
        if message.topic() == PROMPTS_CANONICALIZED.name and places:
            now = time.monotonic()
            self._sights["stream"][message.partition() or 0] += [Sight(now, place) for place in places]

    def _catalogue(self) -> None:
        while not self._over.wait(CATALOGUE_POLL_S):
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as database:
                    while not self._over.wait(CATALOGUE_POLL_S):
                        now = time.monotonic()
                        for partition, offset in database.execute(NEWEST).fetchall():
                            self._sights["catalogue"][partition].append(Sight(now, (partition, offset)))
            except psycopg.Error:
                continue  # away, or without tables yet


def sources_of(topic: str, value: bytes, headers: Iterable[tuple[str, bytes]]) -> Iterable[Place]:
    """Return the records of `prompts` that end in a record of an output topic."""
    if topic == PROMPTS_CANONICALIZED.name:
        assignments = (item.assignment for item in frames.decode(CanonicalizedFrame, value).prompts)
        return [(each.prompt.partition, each.prompt.offset) for each in assignments if each.sequence == 0]
    if topic == PROMPTS_REJECTED.name:
        rejection = orjson.loads(value)
        return [(rejection["partition"], rejection["offset"])]
    said = {name.removeprefix(ERROR_HEADER_PREFIX): text for name, text in headers}
    return [(int(said["partition"]), int(said["offset"]))] if said.get("topic") == b"prompts" else []


def _after(source: Place, offsets: Mapping[int, int]) -> bool:
    partition, offset = source
    return offset > offsets.get(partition, -1)
