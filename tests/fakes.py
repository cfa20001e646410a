"""The engine without a broker: units that record, tables that are dicts, and an engine that holds both.

    engine = FakeEngine()
    agent.attach(engine, ...)                     # what the worker does with the real one
    unit = await engine.run("clustering", [a_record(value=frame)], partition=3)
    unit.sent, unit.dead_letters, unit.counts     # what a completed unit would publish
    engine.tables["centroids"].rows[3]            # what its table holds

A handler that raises undoes its table writes and drops its sends, as the real unit does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from schemas.avro import WriterSchema
from schemas.errors import SchemaUnavailable
from streams.engine.ports import Handler, Headers, Record, Split


@dataclass(frozen=True, slots=True)
class Sent:
    """One queued record."""

    topic: str
    value: bytes | None
    partition: int
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    record: Record
    error: Exception
    stage: str


@dataclass(slots=True)
class FakeUnit:
    """Implements `ports.Unit`; keeps everything it was told, in order."""

    topic: str
    partition: int
    records: Sequence[Record]
    sent: list[Sent] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    # (name, ((label, value), ...) sorted by label) -> total
    counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = field(default_factory=Counter)

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
        self.sent.append(Sent(topic, value, partition, key, headers, timestamp_ms))

    def dead_letter(self, record: Record, error: Exception, *, stage: str) -> None:
        self.dead_letters.append(DeadLetter(record, error, stage))

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]  # amounts may be fractions

    def sent_to(self, topic: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.topic == topic]

    def counted(self, name: str, **labels: str) -> float:
        """Return the total of a counter over all label values not named."""
        wanted = set(labels.items())
        return sum(total for (of, having), total in self.counts.items() if of == name and wanted <= set(having))


class FakeTable:
    """Implements `ports.Table`: `rows[partition][key]`. Inside a unit only the unit's partition is seen."""

    def __init__(self, name: str, owner: str = "") -> None:
        self.name = name
        self.owner = owner  # the topic it is co-partitioned with
        self.rows: defaultdict[int, dict[str, bytes]] = defaultdict(dict)
        self.partition: int | None = None  # of the running unit; None outside one, where writing is an error

    def get(self, key: str) -> bytes | None:
        if self.partition is not None:
            return self.rows[self.partition].get(key)
        return next((rows[key] for rows in self.rows.values() if key in rows), None)

    def put(self, key: str, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"table {self.name}: a value is {type(value).__name__}, not bytes")
        self._writable()[key] = value

    def delete(self, key: str) -> None:
        self._writable().pop(key, None)

    def items(self, partition: int) -> Iterator[tuple[str, bytes]]:
        yield from sorted(self.rows[partition].items())

    def _writable(self) -> dict[str, bytes]:
        if self.partition is None:
            raise RuntimeError(f"table {self.name} is written outside a unit")
        return self.rows[self.partition]


class FakeEngine:
    """What `attach(engine, ...)` sees: registers stages and tables, runs one unit at a time.

    It is every topic's `StateView` as well: a unit that was undone and `restore` change the generation.
    """

    def __init__(self) -> None:
        self.stages: dict[str, tuple[str, Handler]] = {}  # name -> (source topic, handler)
        self.splits: dict[str, Split] = {}
        self.tables: dict[str, FakeTable] = {}
        self._generations: Counter[int] = Counter()
        self._offsets: Counter[tuple[str, int]] = Counter()

    def stage(
        self,
        name: str,
        source_topic: str,
        handler: Handler,
        *,
        split: Split | None = None,
        unit_records_max: int | None = None,
    ) -> None:
        del unit_records_max  # a test cuts units as it likes
        if name in self.stages:
            raise ValueError(f"a stage named {name} is attached already")
        self.stages[name] = (source_topic, handler)
        if split is not None:
            self.splits[name] = split

    def table(self, name: str, *, owner: str, row_format: int = 1) -> FakeTable:  # noqa: ARG002  rows are never restored here
        return self.tables.setdefault(name, FakeTable(name, owner))

    def views(self, topic: str) -> FakeEngine:
        assert topic in {table.owner for table in self.tables.values()}, f"no table belongs to {topic}"
        return self

    def generation(self, partition: int) -> int:
        return self._generations[partition]

    async def run(self, stage: str, records: Sequence[Record], *, partition: int = 0) -> FakeUnit:
        """Run one unit through a stage and return it completed; undo it when the handler raises."""
        topic, handler = self.stages[stage]
        unit = FakeUnit(topic, partition, records)
        before = {name: deepcopy(table.rows) for name, table in self.tables.items()}
        for table in self.tables.values():
            table.partition = partition
        try:
            await handler(unit)
        except BaseException:
            for name, table in self.tables.items():
                table.rows = before[name]
            self._generations[partition] += 1
            raise
        finally:
            for table in self.tables.values():
                table.partition = None
        return unit

    def records_of(self, unit: FakeUnit, topic: str, *, partition: int) -> list[Record]:
        """Return what a unit sent to one partition of a topic, as the records the next stage reads."""
        records = []
        for sent in unit.sent_to(topic):
            if sent.partition == partition:
                offset = self._offsets[topic, partition]
                self._offsets[topic, partition] += 1
                records.append(
                    Record(topic, partition, offset, sent.timestamp_ms or 0, sent.key, sent.value, sent.headers)
                )
        return records

    def restore(self) -> None:
        """Pretend that every table was rebuilt from its changelog: caches made from rows are stale."""
        for partition in {partition for table in self.tables.values() for partition in table.rows}:
            self._generations[partition] += 1


class NoSchemas:
    """Implements `ports.WriterSchemas` for tests in which this program is the only writer."""

    def known(self, reference: str) -> WriterSchema | None:
        del reference
        return None

    async def find(self, reference: str) -> WriterSchema:
        raise SchemaUnavailable(f"nobody knows {reference}", reference=reference)


def a_record(
    value: bytes | None = b"",
    *,
    topic: str = "prompts",
    partition: int = 0,
    offset: int = 0,
    timestamp_ms: int = 1_760_000_000_000,
    key: bytes | None = None,
    headers: Headers = (),
) -> Record:
    """Return a record; a test states only what it is about."""
    return Record(topic, partition, offset, timestamp_ms, key, value, headers)
