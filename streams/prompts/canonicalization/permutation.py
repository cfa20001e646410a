"""Mean and spread of a statistic over all orders that things could have come in.

Pure. The statistic adds up, over all pairs, how much two things are alike times a weight of the two places they stand
at. Its first two moments over all orders follow from a few sums of each matrix (Mantel, 1967), so nothing has to be
shuffled. All sums are of whole numbers: the answer is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.float64]  # holds whole numbers below 2**53 only, so that BLAS may add them in any order


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


def sums_of(matrices: Whole) -> Iterator[Sums]:
    """Yield the sums of each matrix of a stack."""
    rows = matrices.sum(axis=2)
    sums = rows.sum(axis=1), (matrices * matrices).sum(axis=(1, 2)), (rows * rows).sum(axis=1)
    for total, squares, by_row in zip(*sums, strict=True):
        yield Sums(matrices.shape[1], int(total), int(squares), int(by_row))


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
