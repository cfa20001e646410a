"""State tables: Faust tables whose rows are bytes, kept by partition, owned by one source topic.

A row lives in the partition of the unit that wrote it. The rows of a partition are true up to one
position of the owner's partition: that pair (owner topic, partition) is what becomes stale, is
restored and is dropped, for all tables of the owner together.

The Faust table declares the changelog, so that the group assigns its partitions together with the
owner's; the rows stand in its store. Nothing is written to a store but by a completed unit or a
restore, so rows never hold what was not published.

Every record of a changelog says in headers which format its row is in, and up to which position of the source
it was reached. A row of another format than the table's is refused, whoever wrote it and whenever: bytes that
happen to decode are worse than none. A row that knows of records after the committed position is refused, too:
somebody moved the offsets back, and what the rows already hold would be applied twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

import faust
from faust.stores.memory import Store

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.unit import HandlerMisuse, current_unit
from streams.engine.ports import Headers

Rows = dict[str, bytes]

FORMAT_HEADER = "format"
POSITION_HEADER = "position"  # in the source, after the last record that the row may know of


class ChangelogTable:
    """Implements `ports.Table`. Hashable by identity: units keep their overlays by table."""

    def __init__(self, name: str, owner: str, changelog: str, row_format: int = 1) -> None:
        self.name = name
        self.owner = owner
        self.changelog = changelog
        self.row_format = row_format
        self.headers: Headers = ((FORMAT_HEADER, b"%d" % row_format),)
        self.partitions: dict[int, Rows] = {}

    def get(self, key: str) -> bytes | None:
        """Return a row: of the unit's partition inside a unit, of any partition outside."""
        unit = current_unit.get()
        if unit is None:
            return next((rows[key] for rows in self.partitions.values() if key in rows), None)
        written = unit.written(self)
        return written[key] if key in written else self.rows(unit.partition).get(key)

    def put(self, key: str, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise HandlerMisuse(f"table {self.name}: a value is {type(value).__name__}, not bytes")
        self._write(key, value)

    def delete(self, key: str) -> None:
        self._write(key, None)

    def items(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Rows of one partition in ascending order of key, as the running unit sees them."""
        rows = self.rows(partition)
        unit = current_unit.get()
        if unit is not None and unit.partition == partition and unit.written(self):
            overlaid = {**rows, **unit.written(self)}
            rows = {key: value for key, value in overlaid.items() if value is not None}
        for key in sorted(rows):
            yield key, rows[key]

    def rows(self, partition: int) -> Rows:
        """Return the rows that completed units left; not to be changed by the caller."""
        return self.partitions.get(partition, {})

    def apply(self, partition: int, written: Mapping[str, bytes | None]) -> None:
        """Take over the rows of a completed unit (None = deleted)."""
        rows = self.partitions.setdefault(partition, {})
        for key, value in written.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def check_format(self, headers: Headers) -> None:
        """Raise StateIncompatible unless a record of the changelog holds a row of this table's format."""
        if tuple(headers[:1]) == self.headers:
            return
        written = (dict(headers).get(FORMAT_HEADER) or b"none").decode("ascii", "replace")
        raise StateIncompatible(
            f"restoring table {self.name}: {self.changelog} has a row of format {written}, not {self.row_format}",
            hint="run the version that wrote it, or process the source again: delete the changelogs, the offsets "
            "of the group and the workers' state folders together",
        )

    def headers_at(self, position: int) -> Headers:
        """Return the headers of a row that was reached by the records before a position of the source."""
        return (*self.headers, (POSITION_HEADER, b"%d" % position))

    def replace(self, partition: int, rows: Rows) -> None:
        """Take over a restored partition."""
        self.partitions[partition] = rows

    def drop(self, partition: int) -> None:
        """Forget a partition that another worker holds now."""
        self.partitions.pop(partition, None)

    def _write(self, key: str, value: bytes | None) -> None:
        unit = current_unit.get()
        if unit is None:
            raise HandlerMisuse(f"table {self.name} was written outside a unit")
        unit.write(self, key, value)


def position_of(headers: Headers) -> int:
    """Return the position that a row was reached by; 0 where the row does not say."""
    return int(dict(headers).get(POSITION_HEADER) or b"0")


class View:
    """Implements `ports.StateView` for the tables of one owner."""

    def __init__(self) -> None:
        self._generations: Counter[int] = Counter()

    def generation(self, partition: int) -> int:
        return self._generations[partition]

    def changed(self, partition: int) -> None:
        """The tables were restored, undone or taken away."""
        self._generations[partition] += 1


def declare(app: faust.App, table: ChangelogTable, partitions: int) -> None:
    """Register a table with Faust, its rows being those of `table`."""
    declared = _DeclaredTable(
        app,
        name=table.name,
        partitions=partitions,
        changelog_topic=app.topic(table.changelog, partitions=partitions, internal=True),
        key_type=str,
        value_type=bytes,
    )
    declared.rows_of = table
    app.tables.add(declared)


class _DeclaredTable(faust.Table[str, bytes]):
    """A Faust table over the rows of a `ChangelogTable`; read-only, since units write."""

    rows_of: ChangelogTable

    def _new_store(self) -> _RowStore:
        store = _RowStore("memory://", self.app, self)
        store.data = _AllRows(self.rows_of)  # type: ignore[assignment]  # Faust itself never writes
        return store


class _RowStore(Store[str, bytes]):
    """Faust's memory store, with rows that are kept elsewhere."""


class _AllRows(Mapping[str, bytes]):
    """The rows of every partition of this worker, as one mapping."""

    def __init__(self, table: ChangelogTable) -> None:
        self._table = table

    def __getitem__(self, key: str) -> bytes:
        for rows in self._table.partitions.values():
            if key in rows:
                return rows[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._table.partitions.values())

    def __len__(self) -> int:
        return sum(map(len, self._table.partitions.values()))
