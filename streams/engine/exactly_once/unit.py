"""A unit of work: some records of one partition that take effect whole, or not at all.

While the handler runs, rows it writes stand in an overlay that only this unit sees, and records it
sends stand in a list. Undoing is forgetting both; completing hands the list to the producer, then
the overlay to the tables. A row written several times goes to the changelog once, and a row written
back as it was does not go there at all.

A part of a unit is a unit inside it: it sees what the unit wrote so far, and what it does itself joins
the unit when it is taken over, or is forgotten without touching the rest. That is how the good pieces of
a record take effect without the one at fault, and still all at once.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, cast

from schemas.errors import RecordTooLarge
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.dead_letter import DeadLetters
from streams.engine.limits import RECORD_OVERHEAD_BYTES
from streams.engine.ports import Headers, Record

if TYPE_CHECKING:
    from streams.engine.tables import ChangelogTable


class HandlerMisuse(Exception):
    """A handler broke the rules of units (a bug, not a bad record): the worker stops."""


class State(Enum):
    OPEN = "open"
    DONE = "done"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way to the producer."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None

    @property
    def size_bytes(self) -> int:
        headers = sum(len(name) + len(value or b"") + 10 for name, value in self.headers)
        return RECORD_OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + headers


# The unit whose handler is running: table writes find their partition and overlay through it.
current_unit: ContextVar[UnitOfWork | None] = ContextVar("current_unit", default=None)


class UnitOfWork:
    """Implements `ports.Unit`."""

    def __init__(
        self,
        topic: str,
        partition: int,
        records: Sequence[Record],
        dead_letters: DeadLetters,
        whole: UnitOfWork | None = None,  # the unit this one is a part of
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.records = records
        self.state = State.OPEN
        self.tallies: list[tuple[str, float, Mapping[str, str]]] = []  # additions to counters of the app
        self.letters: list[tuple[str, str, str]] = []  # (stage, kind of error, topic), for the observer
        self._dead_letters = dead_letters
        self._whole = whole
        self._sends: list[Outgoing] = []
        self._rows: dict[ChangelogTable, dict[str, bytes | None]] = {}

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
        """Queue a record; it is published when the unit completes.

        Raises:
            RecordTooLarge: no topic would take it.
        """
        self._require_open()
        outgoing = Outgoing(topic, partition, key, value, tuple(headers), timestamp_ms)
        check_size(outgoing.size_bytes, f"a record to {topic}")
        self._sends.append(outgoing)

    def dead_letter(self, record: Record, error: Exception, *, stage: str) -> None:
        """Queue `record`, original bytes, key and headers, for the dead letters with error headers."""
        self._require_open()
        letter = self._dead_letters.letter(record, error, stage)
        self._sends.append(
            Outgoing(letter.topic, letter.partition, letter.key, letter.value, letter.headers, record.timestamp_ms)
        )
        self.letters.append((stage, type(error).__name__, record.topic))

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter of the app when the unit is committed."""
        self._require_open()
        self.tallies.append((name, amount, labels))

    def part(self, records: Sequence[Record]) -> UnitOfWork:
        """Return a unit for some records that takes effect with this one, once `take` was given it."""
        self._require_open()
        return UnitOfWork(self.topic, self.partition, records, self._dead_letters, self)

    def take(self, part: UnitOfWork) -> None:
        """Take over everything a part did."""
        self._require_open()
        part.state = State.DONE
        for table, rows in part._rows.items():
            self._rows.setdefault(table, {}).update(rows)
        self._sends += part._sends
        self.tallies += part.tallies
        self.letters += part.letters

    def written(self, table: ChangelogTable) -> Mapping[str, bytes | None]:
        """Return the rows this unit wrote to a table (None = deleted), those of the unit around it included."""
        own = self._rows.get(table, {})
        if self._whole is None:
            return own
        around = cast("MutableMapping[str, bytes | None]", self._whole.written(table))  # read only, here as there
        return ChainMap(own, around)

    def write(self, table: ChangelogTable, key: str, value: bytes | None) -> None:
        self._require_open()
        if table.owner != self.topic:
            raise HandlerMisuse(f"table {table.name} belongs to the agent of {table.owner}, not of {self.topic}")
        check_size(RECORD_OVERHEAD_BYTES + len(key) * 4 + len(value or b""), f"a row of table {table.name}")
        self._rows.setdefault(table, {})[key] = value

    def rows_written(self) -> Iterable[tuple[ChangelogTable, Mapping[str, bytes | None]]]:
        """Return the rows this unit wrote by table (None = deleted)."""
        return self._rows.items()

    def outgoing(self, position: int) -> list[Outgoing]:
        """Return everything the unit publishes: its changed rows, then its sends.

        `position` is that of the source after its records; the rows name it.
        """
        headers = {table: table.headers_at(position) for table in self._rows}
        changelog = [
            Outgoing(table.changelog, self.partition, key.encode("utf-8", "surrogatepass"), value, headers[table])
            for table, rows in self._rows.items()
            for key, value in rows.items()
            if table.rows(self.partition).get(key) != value
        ]
        return changelog + self._sends

    def complete(self) -> None:
        """Put the rows into the tables. Everything of `outgoing` is with the producer by now."""
        self.state = State.DONE
        for table, rows in self._rows.items():
            table.apply(self.partition, rows)

    def undo(self) -> None:
        """Forget what the handler did."""
        self.state = State.UNDONE

    def _require_open(self) -> None:
        if self.state is not State.OPEN:
            # Reached by a task that a handler left behind; what it does now must not take effect.
            raise HandlerMisuse(f"a handler of {self.topic} used its unit after the unit was {self.state.value}")


def check_size(size: int, what: str) -> None:
    if size > RECORD_BYTES_MAX:
        raise RecordTooLarge(f"{what} takes {size} bytes; at most {RECORD_BYTES_MAX} are allowed")
