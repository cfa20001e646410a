"""What a newcomer and its neighbours in the pool have in common."""

from __future__ import annotations

import numpy as np

from streams.compiler import Bytes, Ints, kernel


@kernel()
def _weight(part: Bytes, bits: Ints) -> int:
    weight = 0
    for column in range(part.size):
        weight += part[column] * bits[column]
    return weight


@kernel("u1[:, ::1](u1[:, ::1], i8[::1], i8[::1], i8, i8, i8[::1], i8)")
def proposals(
    shared: Bytes, amounts: Ints, bits: Ints, looked_at: int, heaviest: int, common: Ints, size_min: int
) -> Bytes:
    """Return sets of places that may be a template's constants, a row each, each set once.

    They are what the `heaviest` of the first `looked_at` neighbours share, and what more than `common` numbers hold.
    """
    rows = min(looked_at, shared.shape[0])
    weights = np.empty(rows, dtype=np.int64)
    order = np.empty(rows, dtype=np.int64)
    for row in range(rows):
        weights[row] = _weight(shared[row], bits)
        at = row
        while at > 0 and weights[order[at - 1]] < weights[row]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = row
    found = np.empty((heaviest + common.size, amounts.size), dtype=np.uint8)
    count = 0
    for number in range(heaviest + common.size):
        if number < heaviest:
            if number >= rows:
                continue
            found[count] = shared[order[number]]
        else:
            found[count] = amounts > common[number - heaviest]
        new = found[count].sum() >= size_min
        for earlier in range(count):
            new = new and not np.array_equal(found[earlier], found[count])
        count += new
    return found[:count].copy()


@kernel("Tuple((u1[::1], u1[::1]))(u1[:, ::1], u1[::1], i8)")
def witnesses(shared: Bytes, part: Bytes, percent: int) -> tuple[Bytes, Bytes]:
    """Return which rows hold `percent` of a set of places, and the places that `percent` of those rows hold."""
    size = part.sum()
    holding = np.zeros(shared.shape[0], dtype=np.uint8)
    counts = np.zeros(part.size, dtype=np.int64)
    rows = 0
    for row in range(shared.shape[0]):
        both = 0
        for column in range(part.size):
            both += part[column] & shared[row, column]
        if 100 * both >= percent * size:
            holding[row] = 1
            rows += 1
            for column in range(part.size):
                counts[column] += shared[row, column]
    needed = max(1, -(-percent * rows // 100))
    agreed = np.zeros(part.size, dtype=np.uint8)
    for column in range(part.size):
        agreed[column] = counts[column] >= needed
    return holding, agreed
