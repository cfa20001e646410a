"""Records of one partition that wait for their stage.

Batches arrive with the positions before and after them. They must join without a gap: whatever goes
wrong between the broker and here (a reset position, a dropped buffer, a batch delivered twice) shows
as positions that do not meet, and becomes a fresh start instead of a lost or doubled record.

While one unit is worked on or committed, the next one gathers here: units are small when traffic is
light and full when it is heavy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from streams.engine.limits import INBOX_BYTES_MAX, INBOX_UNITS_MAX, UNIT_BYTES_MAX
from streams.engine.ports import Record


@dataclass(frozen=True, slots=True)
class Fault:
    """What cannot be read: from offset `at` to before `after`, as far as that can be told."""

    at: int
    after: int
    error: str


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
    fault: Fault | None = None  # what follows cannot be read


class PositionGap(Exception):
    """Records are missing between what was received and what came next."""


class Inbox:
    """A queue of records, bounded in bytes and units by pausing the fetch (not by refusing)."""

    def __init__(self, position: int, unit_records_max: int) -> None:
        self.end = position
        self._unit_records_max = unit_records_max
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._any = asyncio.Event()
        self._full = asyncio.Event()

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
            self._any.set()
        if self.has_full_unit:
            self._full.set()

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
        if not self.has_full_unit:
            self._full.clear()
        if self._records:
            return records, records[-1].offset + 1
        self._any.clear()
        return records, self.end

    async def wait_any(self) -> None:
        """Return when there is a record, or after `wake`."""
        await self._any.wait()

    async def wait_full(self, seconds_max: float) -> None:
        """Return when a whole unit waits, after `wake`, or when the time is over."""
        if seconds_max <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                await self._full.wait()

    def wake(self) -> None:
        """Let waiters go, because their session closes."""
        self._any.set()
        self._full.set()


def size_bytes(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"") + sum(len(value or b"") for _, value in record.headers)
