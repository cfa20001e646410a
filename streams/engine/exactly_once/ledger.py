"""What a partition has done and not committed yet: publishing, pacing and committing.

Pacing. When traffic is light, a unit starts as soon as there is a record, and its commit follows at
once. A commit costs several round trips, so after each one the partition rests for a multiple of what
it took, while records gather: a busy worker makes fewer, fuller units. When a whole unit waits there
is no rest, and several units share one commit, up to the commit interval.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import UnitOfWork
from streams.engine.limits import COMMIT_PAUSE_FACTOR
from streams.engine.ports import Observer
from streams.engine.store import Store, Written


class Ledger:
    """The position of a source partition, and the units between the last commit and it."""

    def __init__(
        self,
        producer: TransactionalProducer,
        source: tuple[str, int],
        group: str,
        position: int,
        pause_s_min: float,
        commit_interval_s: float,
        observer: Observer,
        store: Store,
    ) -> None:
        self.position = position
        self._producer = producer
        self._source = source
        self._group = group
        self._pause_s_min = pause_s_min
        self._commit_interval_s = commit_interval_s
        self._observer = observer
        self._store = store
        self._units: list[UnitOfWork] = []
        self._due_at = 0.0
        self._rested_at = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the units have to be committed (negative: overdue); None when there are none."""
        return self._due_at - time.monotonic() if self._units else None

    @property
    def rest_s(self) -> float:
        """Seconds to let records gather before the next unit; not positive: start."""
        return self._rested_at - time.monotonic()

    async def publish(self, unit: UnitOfWork, position: int) -> None:
        """Give a completed unit to the transaction, and its rows to the tables."""
        outgoing = unit.outgoing(position)
        await self._producer.send(outgoing)
        unit.complete()
        self.position = position
        if not self._units:
            self._due_at = time.monotonic() + self._commit_interval_s
        self._units.append(unit)
        for record in outgoing:
            self._observer.published(record.topic, record.size_bytes)

    async def commit(self) -> None:
        """Make every published unit take effect, together with the position after them."""
        if not self._units:
            return
        started_at = time.monotonic()
        offsets = await self._producer.commit(self._source, self.position, self._group)
        committed_at = time.monotonic()
        pause_s = max(self._pause_s_min, COMMIT_PAUSE_FACTOR * (committed_at - started_at))
        self._rested_at = committed_at + min(pause_s, self._commit_interval_s)
        # Counted only now: what a lost transaction takes back was never there.
        units, self._units = self._units, []
        self._store.save(self._source, self.position, *_written(units, offsets))
        for unit in units:
            self._report(unit)

    def _report(self, unit: UnitOfWork) -> None:
        for name, amount, labels in unit.tallies:
            self._observer.count(name, amount, labels)
        for stage, kind, topic in unit.letters:
            self._observer.dead_lettered(stage, kind, topic)


def _written(units: Sequence[UnitOfWork], offsets: Mapping[tuple[str, int], int]) -> tuple[Written, dict[str, int]]:
    """Return the rows that some units changed, the last write counting, and where the changelogs have them."""
    rows: dict[str, dict[str, bytes | None]] = {}
    changelogs: dict[str, int] = {}
    for unit in units:
        for table, of_table in unit.rows_written():
            rows.setdefault(table.name, {}).update(of_table)
            if (place := (table.changelog, unit.partition)) in offsets:  # not where every row stayed as it was
                changelogs[table.name] = offsets[place]
    return rows, changelogs
