"""Mean and spread of a statistic over all orders that things could have come in.

Pure. The statistic adds up, over all pairs, how much two things are alike times a weight of the two places they stand
at. Its first two moments over all orders follow from a few sums of each matrix (Mantel, 1967), so nothing has to be
shuffled. All sums are of whole numbers: the answer is the same everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streams.prompts.canonicalization.compiled.kernels import Whole, sums


class Sums(NamedTuple):
    """Of a symmetric matrix with nothing on its diagonal."""

    things: int
    total: int  # of its entries
    squares: int  # of them
    touching: int  # products of two entries that share one place
    apart: int  # products of two entries that share no place


def sums_from(things: int, total: int, squares: int, by_row: int) -> Sums:
    """Return the sums of a matrix by those of its entries, of their squares, and of its rows' sums squared."""
    touching = by_row - squares
    return Sums(things, total, squares, touching, total**2 - 2 * squares - 4 * touching)


def sums_of(matrix: Whole) -> Sums:
    """Return the sums of a matrix."""
    total, squares, by_row, _ = sums(matrix, 0)
    return sums_from(len(matrix), total, squares, by_row)


def moments(alike: Sums, weights: Sums) -> tuple[int, int]:
    """Return mean and standard deviation of the statistic over all orders of at least four things."""
    pairs = alike.things * (alike.things - 1)
    threes = pairs * (alike.things - 2)
    mean = alike.total * weights.total // pairs
    second_moment = (
        2 * alike.squares * weights.squares // pairs
        + 4 * alike.touching * weights.touching // threes
        + alike.apart * weights.apart // (threes * (alike.things - 3))
    )
    return mean, max(1, math.isqrt(max(0, second_moment - mean**2)))
