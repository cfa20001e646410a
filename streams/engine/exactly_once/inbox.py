"""Records of one partition that wait for their stage.

Batches arrive with the positions before and after them. They must join without a gap: whatever goes
wrong between the broker and here (a reset position, a dropped buffer, a batch delivered twice) shows
as positions that do not meet, and becomes a fresh start instead of a lost or doubled record.

Nothing waits for a unit to fill: while one unit is worked on, the next one gathers here. So units
are small when traffic is light and full when it is heavy, without a setting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from streams.engine.limits import INBOX_BYTES_MAX, INBOX_UNITS_MAX, UNIT_BYTES_MAX
from streams.engine.ports import Record


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch brought for one partition.

    `start` and `end` are positions: `end` is often greater than the last offset plus one, because
    transaction markers and aborted records take offsets too. A batch may hold no record at all.
    """

    topic: str
    partition: int
    epoch: int  # of the assignment it was fetched under
    start: int
    end: int
    records: tuple[Record, ...]


class PositionGap(Exception):
    """Records are missing between what was received and what came next."""


class Inbox:
    """A queue of records, bounded in bytes and units by pausing the fetch (not by refusing)."""

    def __init__(self, position: int, unit_records_max: int) -> None:
        self.end = position
        self._unit_records_max = unit_records_max
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    @property
    def empty(self) -> bool:
        return not self._records

    @property
    def full(self) -> bool:
        """Whether fetching should pause."""
        return self._bytes >= INBOX_BYTES_MAX or len(self._records) >= INBOX_UNITS_MAX * self._unit_records_max

    @property
    def has_full_unit(self) -> bool:
        return self._bytes >= UNIT_BYTES_MAX or len(self._records) >= self._unit_records_max

    def push(self, batch: Batch) -> None:
        """Add a batch.

        Raises:
            PositionGap: it does not follow what came before.
        """
        if batch.start != self.end:
            raise PositionGap(f"records start at position {batch.start}, expected {self.end}")
        self.end = batch.end
        self._records.extend(batch.records)
        self._bytes += sum(map(size_bytes, batch.records))
        if self._records:
            self._changed.set()

    def take(self) -> tuple[list[Record], int]:
        """Return the records of one unit (at least one), and the position after them."""
        records = [self._records.popleft()]
        taken = size_bytes(records[0])
        while self._records and len(records) < self._unit_records_max:
            size = size_bytes(self._records[0])
            if taken + size > UNIT_BYTES_MAX:
                break
            records.append(self._records.popleft())
            taken += size
        self._bytes -= taken
        if self._records:
            return records, records[-1].offset + 1
        self._changed.clear()
        return records, self.end

    async def wait(self) -> None:
        """Return when there is a record."""
        await self._changed.wait()

    def wake(self) -> None:
        """Let a waiter look again, for instance because its session closes."""
        self._changed.set()


def size_bytes(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"") + sum(len(value or b"") for _, value in record.headers)
