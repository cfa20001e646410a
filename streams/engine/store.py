"""What the sessions need of state on disk, so that a restart does not read whole changelogs.

The changelogs stay the truth, and memory is what units read and write. A store is a copy that follows behind:
after a commit it is given the rows that changed and the position they belong to, and keeps both in one stroke.
So whatever it has of a partition is the state at exactly the position it names, and an opening session, which
knows the committed position, can tell whether to take it, to catch up, or to start over (`exactly_once/restore.py`).

Nothing depends on a store: its errors are its own business, and end in "nothing found".

Intuition: the photograph of the ledger in the clerk's pocket. It is dated, so it saves the way to the archive when
the date is right; when it is not, or is smudged, the archive has the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.engine.tables import ChangelogTable, Rows

Source = tuple[str, int]  # topic and partition
Written = Mapping[str, Mapping[str, bytes | None]]  # rows by key by table; None = deleted


@dataclass(frozen=True, slots=True)
class Saved:
    """What a store has of a partition.

    `changelogs` says, by table, from which offset on the changelog holds all that is newer than the rows kept.
    """

    position: int
    changelogs: Mapping[str, int]
    saved_at_s: float


class Store(Protocol):
    """Keeps the rows of partitions. None of its methods raises."""

    async def find(self, source: Source, tables: Sequence[ChangelogTable]) -> Saved | None:
        """Return what there is of a partition; None unless it is of just these tables, in their formats."""

    async def rows(self, source: Source, tables: Sequence[ChangelogTable]) -> dict[str, Rows] | None:
        """Return the rows of a partition by table; None when they cannot be read."""

    def begin(
        self, source: Source, tables: Sequence[ChangelogTable], saved: Saved, written: Written, *, anew: bool
    ) -> None:
        """Keep a restored partition: add what changed to what there is, or put it in its place (`anew`)."""

    def save(self, source: Source, position: int, written: Written, changelogs: Mapping[str, int]) -> None:
        """Keep what a commit changed of a partition that was begun."""

    async def close(self) -> None:
        """Finish what waits to be written."""


class NoStore:
    """Keeps nothing: state is restored from the changelogs each time."""

    async def find(self, source: Source, tables: Sequence[ChangelogTable]) -> Saved | None: ...
    async def rows(self, source: Source, tables: Sequence[ChangelogTable]) -> dict[str, Rows] | None: ...
    def begin(
        self, source: Source, tables: Sequence[ChangelogTable], saved: Saved, written: Written, *, anew: bool
    ) -> None: ...
    def save(self, source: Source, position: int, written: Written, changelogs: Mapping[str, int]) -> None: ...
    async def close(self) -> None: ...
