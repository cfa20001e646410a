"""How much a set of shared shingles proves.

A shingle weighs as many bits as it is rare among the tenant's clusters and waiting prompts. A cluster counts
`CLUSTER_COUNTS` and a candidate prompt one: what stands in the constants of many clusters is a turn of phrase, what
stands in many waiting prompts may still become a template.

Counts are kept in step with every change of a signature or of the pool, so a weight is a function of the state alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import repeat

from streams.prompts.clustering.policy import BIT

CLUSTER_COUNTS = 5
# A tenant starts as though so many other templates had been seen, none of them with its words. Without them the
# constants of a tenant's only template would weigh nothing, because everything holds them, and it would never be found.
BACKGROUND_CLUSTERS = 32


class Evidence:
    """Document frequencies of shingles, and the weights that follow from them."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = BACKGROUND_CLUSTERS * CLUSTER_COUNTS
        self._logs = _Logs()

    def add(self, shingles: Iterable[int], count: int) -> None:
        """Count these shingles `count` more times."""
        counts = self._counts
        if count == 1:
            counts.update(shingles)
            return
        for shingle in shingles:
            counts[shingle] = counts.get(shingle, 0) + count

    def remove(self, shingles: Iterable[int], count: int) -> None:
        counts = self._counts
        for shingle in shingles:
            left = counts[shingle] - count
            if left:
                counts[shingle] = left
            else:
                del counts[shingle]

    def resize(self, change: int) -> None:
        """Tell that the number of clusters (times `CLUSTER_COUNTS`) and candidates changed."""
        self._total += change

    def weigh(self, shingles: Collection[int]) -> int:
        """Return the bits (in fixed point) that these shingles weigh together."""
        counts = map(self._counts.get, shingles, repeat(0))
        return len(shingles) * _log2(self._total) - sum(map(self._logs.__getitem__, counts))

    def weights(self, shingles: Iterable[int]) -> list[int]:
        """Return the bits (in fixed point) that each of these shingles weighs."""
        most = _log2(self._total)
        return [most - self._logs[count] for count in map(self._counts.get, shingles, repeat(0))]


class _Logs(dict[int, int]):
    """Logarithms of counts, computed once."""

    def __missing__(self, count: int) -> int:
        log = self[count] = _log2(CLUSTER_COUNTS + count)
        return log


def _log2(value: int) -> int:
    return round(BIT * math.log2(value))
