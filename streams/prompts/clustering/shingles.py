"""A set of shingles: an ascending array, whose set operations are merges in machine code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from streams.compiler import Ints
from streams.prompts.clustering.compiled import sets
from streams.prompts.clustering.compiled.texts import STARTS


class Shingles:
    """An immutable set of shingles, in a tenth of a frozenset's memory."""

    __slots__ = ("array", "size")

    def __init__(self, ascending: Ints) -> None:
        self.array = ascending
        self.size = ascending.size

    @property
    def ends(self) -> int:
        """How many ends of a prompt (0, 1, 2) are among these shingles."""
        marks = sets.marks(self.array)
        return (marks & STARTS) + (marks >> 1)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    def __contains__(self, shingle: int) -> bool:
        place = int(self.array.searchsorted(shingle))
        return place < self.size and bool(self.array[place] == shingle)

    def __and__(self, other: Shingles) -> Shingles:
        return Shingles(sets.intersect(self.array, other.array))

    def __sub__(self, other: Shingles) -> Shingles:
        return Shingles(sets.subtract(self.array, other.array))

    def __le__(self, other: Shingles) -> bool:
        return sets.is_subset(self.array, other.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shingles) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash(tuple(self.array.tolist()))  # that of bytes would differ from process to process


EMPTY = Shingles(np.empty(0, dtype=np.int64))


def held_by(among: Iterable[Shingles], least: int) -> Shingles:
    """Return the shingles that at least so many of these sets hold."""
    everything = np.concatenate([one.array for one in among])
    everything.sort()
    return Shingles(sets.repeated(everything, least))
