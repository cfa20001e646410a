"""Which numbers hold a shingle: clusters by their constants, kept prompts by all they have."""

from __future__ import annotations

import numpy as np

from streams.compiler import SPREAD, Bytes, Ints
from streams.prompts.clustering.compiled import index as loops
from streams.prompts.clustering.shingles import Shingles

ANY = 1 << 62  # more numbers than can hold a shingle
GROWTH_MAX = 1 << 15  # by which an array grows: what is new is filled with zeros, a millisecond or two for each MiB


class Index:
    """Shingle -> ascending numbers of what holds it. No number is negative, and none holds a shingle twice.

    The arrays are those of `compiled.index`. They grow in place (large ones by remapping their pages, where the
    system's `realloc` can), a little at a time, and never shrink: what is let go is used again.
    """

    def __init__(self) -> None:
        self.heads = np.full(loops.BUCKETS_FIRST, loops.NONE, dtype=np.int64)
        self.entries = np.empty((loops.BUCKETS_FIRST, len(loops.COLUMNS)), dtype=np.int64)
        self.arena = np.empty(loops.BUCKETS_FIRST, dtype=np.int64)
        self.meta = np.zeros(loops.META_SIZE, dtype=np.int64)
        self.meta[loops.BUCKETS] = loops.BUCKETS_FIRST
        self.meta[loops.ENTRIES_FREE] = loops.NONE
        self.meta[loops.SPREAD_BY] = SPREAD
        self.meta[loops.BLOCKS_FREE :] = loops.NONE

    def __len__(self) -> int:
        """How many shingles anything holds."""
        return int(self.meta[loops.KEYS])

    def insert(self, shingles: Shingles, number: int) -> None:
        self._make_room(shingles.size)
        done = 0
        while (
            done := loops.insert(self.heads, self.entries, self.arena, self.meta, shingles.array, number, done)
        ) < shingles.size:
            self.arena.resize(_more_than(self.arena.size), refcheck=False)

    def take_out(self, shingles: Shingles, number: int) -> None:
        """Let a number no longer hold these shingles.

        Raises:
            KeyError: it does not hold one of them.
        """
        done = loops.remove(self.heads, self.entries, self.arena, self.meta, shingles.array, number)
        if done < shingles.size:
            raise KeyError(f"number {number} does not hold shingle {shingles.array[done]}")

    def votes(self, shingles: Ints, votes_min: int = 1) -> dict[int, int]:
        """Return what holds at least so many of these shingles, with how many."""
        numbers, counts = loops.votes(self.heads, self.entries, self.arena, self.meta, shingles, votes_min)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def foremost(self, shingles: Ints, postings_max: int, most: int) -> tuple[list[list[int]], bool]:
        """Return what holds the most of these shingles, each with how many; of equals the smaller number first.

        What more than `postings_max` hold counts not; say also whether that was nothing.
        """
        ranking, left_out = loops.foremost(
            self.heads, self.entries, self.arena, self.meta, shingles, postings_max, most
        )
        return ranking.tolist(), left_out == 0

    def neighbours(
        self, shingles: Ints, newcomer: int, newest: int, votes_min: int, most: int
    ) -> tuple[Ints, Bytes, Ints, Ints]:
        """Return who shares the most with a newcomer, and what (`compiled.index.neighbours`)."""
        near, shared, places, amounts = loops.neighbours(
            self.heads, self.entries, self.arena, self.meta, shingles, newcomer, newest, votes_min, most
        )
        return near, shared, places, amounts

    def _make_room(self, more: int) -> None:
        """Have room for so many shingles more: the free entries may all be gone."""
        used = int(self.meta[loops.ENTRIES_USED])
        if used + more > len(self.entries):
            self.entries.resize((_more_than(used + more), len(loops.COLUMNS)), refcheck=False)
        buckets, room = int(self.meta[loops.BUCKETS]), self.heads.size
        if buckets + more > room:
            self.heads.resize(_more_than(buckets + more), refcheck=False)
            self.heads[room:] = loops.NONE


def _more_than(size: int) -> int:
    """Return what an array of this size grows to."""
    return size + min(size, GROWTH_MAX)
