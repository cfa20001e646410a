"""What a partition has done and not committed yet: publishing, pacing and committing.

Pacing. When traffic is light, a commit follows each unit. Under load several units share one: the
pause between two commits grows with what the last one took, up to the commit interval, so that a
busy worker commits less often and an idle one at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import UnitOfWork
from streams.engine.limits import COMMIT_PAUSE_FACTOR
from streams.engine.ports import Observer


class Ledger:
    """The position of a source partition, and the units between the last commit and it."""

    def __init__(
        self,
        producer: TransactionalProducer,
        source: tuple[str, int],
        group: str,
        position: int,
        commit_interval_s: float,
        observer: Observer,
    ) -> None:
        self.position = position
        self._producer = producer
        self._source = source
        self._group = group
        self._commit_interval_s = commit_interval_s
        self._observer = observer
        self._units: list[UnitOfWork] = []
        self._pause_s = 0.0
        self._committed_at = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the next commit (negative: overdue); None when there is nothing to commit."""
        if not self._units:
            return None
        return self._committed_at + self._pause_s - time.monotonic()

    async def publish(self, unit: UnitOfWork, position: int) -> None:
        """Give a completed unit to the transaction, and its rows to the tables."""
        outgoing = unit.outgoing()
        await self._producer.send(outgoing)
        unit.complete()
        self.position = position
        self._units.append(unit)
        for record in outgoing:
            self._observer.published(record.topic, record.size_bytes)

    async def commit(self) -> None:
        """Make every published unit take effect, together with the position after them."""
        if not self._units:
            return
        started_at = time.monotonic()
        await self._producer.commit(self._source, self.position, self._group)
        self._committed_at = time.monotonic()
        self._pause_s = min(self._commit_interval_s, COMMIT_PAUSE_FACTOR * (self._committed_at - started_at))
        # Counted only now: what a lost transaction takes back was never there.
        units, self._units = self._units, []
        for unit in units:
            self._report(unit.tallies, unit.letters)

    def _report(self, tallies: list[tuple[str, float, Mapping[str, str]]], letters: list[tuple[str, str]]) -> None:
        for name, amount, labels in tallies:
            self._observer.count(name, amount, labels)
        for stage, kind in letters:
            self._observer.dead_lettered(stage, kind)
