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


@kernel()
def _holding(shared: Bytes, part: Bytes, percent: int) -> Bytes:
    """Return which rows hold `percent` of a set of places."""
    size = part.sum()
    holding = np.empty(shared.shape[0], dtype=np.uint8)
    for row in range(shared.shape[0]):
        both = 0
        for column in range(part.size):
            both += part[column] & shared[row, column]
        holding[row] = 100 * both >= percent * size
    return holding


@kernel()
def _agreed(shared: Bytes, holding: Bytes, percent: int) -> Bytes:
    """Return the places that `percent` of these rows hold."""
    counts = np.zeros(shared.shape[1], dtype=np.int64)
    for row in range(shared.shape[0]):
        if holding[row]:
            for column in range(counts.size):
                counts[column] += shared[row, column]
    needed = max(1, -(-percent * holding.sum() // 100))
    agreed = np.empty(counts.size, dtype=np.uint8)
    for column in range(counts.size):
        agreed[column] = counts[column] >= needed
    return agreed


@kernel()
def _is_new(rows: Bytes, count: int) -> bool:
    """Tell whether a row is none of the `count` before it."""
    new = True
    for earlier in range(count):
        new = new and not np.array_equal(rows[earlier], rows[count])
    return new


@kernel()
def _parts(shared: Bytes, amounts: Ints, bits: Ints, looked_at: int, heaviest: int, common: Ints) -> Bytes:
    """Return what the `heaviest` of the first `looked_at` neighbours share, and what more than `common` numbers hold.

    Each set is a row; there is one row each.
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
        count += _is_new(found, count)
    return found[:count]


@kernel("Tuple((u1[:, ::1], u1[:, ::1], i8[::1]))(u1[:, ::1], i8[::1], i8[::1], i8, i8, i8[::1], i8, i8, i8, i8)")
def proposals(
    shared: Bytes, amounts: Ints, bits: Ints,
    looked_at: int, heaviest: int, common: Ints,
    percent: int, rows_min: int, size_min: int, weight_min: int,
) -> tuple[Bytes, Bytes, Ints]:  # fmt: skip
    """Return sets of places that may be a template's constants, with who holds them, each set once.

    A part is what some neighbours share, or what many prompts hold. The rows that hold most of it are its witnesses;
    what is proposed are the places that most of those hold.

    Args:
        shared: for each neighbour and place, whether it holds the shingle there.
        amounts, bits: how many hold that shingle, and what it weighs.
        looked_at, heaviest, common: which parts are looked at (`_parts`).
        percent: what "most" is.
        rows_min, size_min, weight_min: the fewest witnesses, and the least size and weight, of what is proposed.

    Returns:
        the places; the rows; what those places weigh.
    """
    parts = _parts(shared, amounts, bits, looked_at, heaviest, common)
    proposed, witnesses = np.empty_like(parts), np.empty((parts.shape[0], shared.shape[0]), dtype=np.uint8)
    weights = np.empty(parts.shape[0], dtype=np.int64)
    count = 0
    for part in parts:
        if part.sum() < size_min or _weight(part, bits) < weight_min:
            continue
        witnesses[count] = _holding(shared, part, percent)
        if witnesses[count].sum() < rows_min:
            continue
        proposed[count] = _agreed(shared, witnesses[count], percent)
        weights[count] = _weight(proposed[count], bits)
        if proposed[count].sum() >= size_min and weights[count] >= weight_min:
            count += _is_new(witnesses, count)  # the same witnesses agree on the same places
    return proposed[:count].copy(), witnesses[:count].copy(), weights[:count].copy()
