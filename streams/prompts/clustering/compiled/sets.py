"""Sets of shingles as ascending arrays."""

from __future__ import annotations

import numpy as np

from streams.compiler import Ints, kernel


@kernel("i8[::1](i8[::1], i8[::1])")
def intersect(one: Ints, other: Ints) -> Ints:
    both = np.empty(min(one.size, other.size), dtype=np.int64)
    i = j = count = 0
    while i < one.size and j < other.size:  # without branches: which side goes on cannot be guessed
        here, there = one[i], other[j]
        both[count] = here
        count += here == there
        i += here <= there
        j += there <= here
    return both[:count].copy()


@kernel("i8[::1](i8[::1], i8[::1])")
def subtract(one: Ints, other: Ints) -> Ints:
    left = np.empty(one.size, dtype=np.int64)
    j = count = 0
    for shingle in one:
        while j < other.size and other[j] < shingle:
            j += 1
        if j == other.size or other[j] != shingle:
            left[count] = shingle
            count += 1
    return left[:count].copy()


@kernel("b1(i8[::1], i8[::1])")
def is_subset(one: Ints, other: Ints) -> bool:
    if one.size > other.size:
        return False
    j = 0
    for shingle in one:
        while j < other.size and other[j] < shingle:
            j += 1
        if j == other.size or other[j] != shingle:
            return False
        j += 1
    return True


@kernel("i8(i8[::1], i8[::1])")
def count_both(one: Ints, other: Ints) -> int:
    """Return how many shingles two sets share."""
    j = count = 0
    for shingle in one:
        while j < other.size and other[j] < shingle:
            j += 1
        if j < other.size and other[j] == shingle:
            count += 1
    return count


@kernel("UniTuple(i8, 2)(i8[::1], i8[::1], i8[::1])")
def weigh_shared(one: Ints, weights: Ints, other: Ints) -> tuple[int, int]:
    """Return what the shingles that two sets share weigh together, each by its weight in the first, and their marks."""
    weight = marks = j = 0
    for i in range(one.size):
        while j < other.size and other[j] < one[i]:
            j += 1
        if j < other.size and other[j] == one[i]:
            weight += weights[i]
            marks |= one[i] & 3
    return weight, marks


@kernel("i8(i8[::1])")
def marks(shingles: Ints) -> int:
    """Return the marks of ends that stand in any of these shingles."""
    found = 0
    for shingle in shingles:
        found |= shingle & 3
    return found


@kernel("i8[::1](i8[::1], i8)")
def repeated(ascending: Ints, times: int) -> Ints:
    """Return the values that stand at least so often in an ascending array, each once."""
    found = np.empty(ascending.size // max(1, times) + 1, dtype=np.int64)
    count = 0
    start = 0
    for place in range(1, ascending.size + 1):
        if place == ascending.size or ascending[place] != ascending[start]:
            if place - start >= times:
                found[count] = ascending[start]
                count += 1
            start = place
    return found[:count].copy()
