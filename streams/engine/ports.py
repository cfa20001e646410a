"""What the engine and its apps know of each other, as protocols: apps see units and tables only through these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.avro import WriterSchema

Headers = tuple[tuple[str, bytes | None], ...]  # Kafka allows a header without a value


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as it was read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Unit(Protocol):
    """A batch of records of ONE partition that takes effect whole or not at all.

    Table writes are undone and sends are dropped when the unit fails; sends, changelog rows
    and the source offset land in one transaction when it succeeds. Handlers never await a send.
    """

    topic: str
    partition: int
    records: Sequence[Record]

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue a record; it is published when the unit completes."""

    def dead_letter(self, record: Record, error: Exception, *, stage: str) -> None:
        """Queue `record`, original bytes, key and headers, for `dead-letters` with error headers."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter of the app when the unit completes; a unit that is undone counts nothing."""


Handler = Callable[[Unit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a record that can be handled, and refused, without the rest of it."""

    record: Record  # what the handler is given: the place of the whole, and this part of its value
    letter: Record  # what goes to the dead letters instead, when the part is at fault
    counts: tuple[tuple[str, Mapping[str, str]], ...] = ()  # counters of the app that one is added to then, with labels


# Parts a record that carries several things, in their order. Handling the pieces one after the other must lead
# to what handling the record leads to.
Split = Callable[[Record], Sequence[Piece]]


class Table(Protocol):
    """A changelogged table, co-partitioned with the topic of the agent that owns it.

    Keys are strings, values bytes (the room encodes its rows). Readable anywhere, writable only
    inside a unit; a write belongs to the unit's partition. At most one write a key and unit is
    sent to the changelog: the last one.
    """

    name: str

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...

    def delete(self, key: str) -> None: ...

    def items(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Rows of one partition in ascending order of key."""


class StateView(Protocol):
    """Tells a room when what it derived from its tables is no longer true.

    `generation(partition)` changes whenever the tables of a partition were restored, undone or taken
    away since the last call: caches built from them (indexes, tenant engines) must be rebuilt.
    """

    def generation(self, partition: int) -> int: ...


class WriterSchemas(Protocol):
    """Schemas of other writers, by reference: `fingerprint:<hex>` or `registry:<id>`."""

    def known(self, reference: str) -> WriterSchema | None:
        """Return what is in memory. Never asks, never blocks."""

    async def find(self, reference: str) -> WriterSchema:
        """Ask who would know, and remember the answer.

        Raises SchemaUnavailable when nobody knows it, ServiceUnavailable when the one to ask does not answer.
        """


class Observer(Protocol):
    """What the engine tells of its work, as it happens; must be quick and must not raise."""

    def unit_done(self, stage: str, records: int, seconds: float) -> None:
        """A unit completed; `seconds` is the handler's time."""

    def published(self, topic: str, size_bytes: int) -> None:
        """A record was handed to the producer."""

    def dead_lettered(self, stage: str, kind: str, topic: str) -> None:
        """A record of `topic` went to the dead letters, for an error of this class name (counted when committed).

        The letter of a piece counts for the topic it would be replayed to.
        """

    def failed(self, stage: str, kind: str) -> None:
        """Something failed and is tried again: a held partition, or a session that starts over."""

    def lag(self, topic: str, partition: int, records: int) -> None:
        """How many records of a partition are readable but not processed yet."""

    def count(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """A committed unit added to a counter of the app."""


class NullObserver:
    """An `Observer` nobody reads."""

    def unit_done(self, stage: str, records: int, seconds: float) -> None: ...
    def published(self, topic: str, size_bytes: int) -> None: ...
    def dead_lettered(self, stage: str, kind: str, topic: str) -> None: ...
    def failed(self, stage: str, kind: str) -> None: ...
    def lag(self, topic: str, partition: int, records: int) -> None: ...
    def count(self, name: str, amount: float, labels: Mapping[str, str]) -> None: ...
