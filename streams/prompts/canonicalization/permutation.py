"""Mean and spread of a statistic over all orders that things could have come in.

Pure. The statistic adds up, over all pairs, how much two things are alike times a weight of the two places they stand
at. Its first two moments over all orders follow from a few sums of each matrix (Mantel, 1967), so nothing has to be
shuffled. All sums are of whole numbers: the answer is the same everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streams.prompts.canonicalization.kernels import Whole, sums


class Sums(NamedTuple):
    """Of a symmetric matrix with nothing on its diagonal: the sums of its entries, squares, and rows' sums squared."""

    things: int
    total: int
    squares: int
    by_row: int

    @property
    def touching(self) -> int:
        """Return the sum over the products of two entries that share one place."""
        return self.by_row - self.squares

    @property
    def apart(self) -> int:
        """Return the sum over the products of two entries that share no place."""
        return self.total**2 - 2 * self.squares - 4 * self.touching


def sums_of(matrix: Whole) -> Sums:
    """Return the sums of a matrix."""
    return Sums(len(matrix), *sums(matrix, 0)[:3])


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
