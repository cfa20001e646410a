"""How much a set of shared shingles proves.

A shingle weighs as many bits as it is rare among the tenant's clusters and waiting prompts. A cluster counts
`CLUSTER_COUNTS` and a candidate prompt one: what stands in the constants of many clusters is a turn of phrase, what
stands in many waiting prompts may still become a template.

Counts are those of the two indexes, so a weight is a function of the state alone.
"""

from __future__ import annotations

import numpy as np

from streams.compiler import Ints
from streams.prompts.clustering.compiled import index as loops
from streams.prompts.clustering.index import Index
from streams.prompts.clustering.policy import BIT
from streams.prompts.clustering.shingles import EMPTY, Shingles

CLUSTER_COUNTS = 5
# A tenant starts as though so many other templates had been seen, none of them with its words. Without them the
# constants of a tenant's only template would weigh nothing, because everything holds them, and it would never be found.
BACKGROUND_CLUSTERS = 32


class Evidence:
    """The weights of shingles, by who holds them among clusters and candidates."""

    def __init__(self, clusters: Index, candidates: Index) -> None:
        self._clusters = clusters
        self._candidates = candidates
        self._total = BACKGROUND_CLUSTERS * CLUSTER_COUNTS
        self._logs = _logs(2 * self._total)  # of a count and CLUSTER_COUNTS; no count is larger than the total
        self._most = 0  # the logarithm of the total
        self.resize(0)

    def resize(self, change: int) -> None:
        """Tell that the number of clusters (times `CLUSTER_COUNTS`) and candidates changed."""
        self._total += change
        if self._total >= self._logs.size:
            self._logs = _logs(2 * self._total)
        self._most = int(self._logs[self._total - CLUSTER_COUNTS])

    def weigh(self, shingles: Shingles) -> int:
        """Return the bits (in fixed point) that these shingles weigh together."""
        return self.weigh_both(shingles, EMPTY)[1]

    def weigh_both(self, shingles: Shingles, among: Shingles) -> tuple[int, int]:
        """Return the bits (in fixed point) that these shingles weigh: those of them that are among others, and all."""
        one, other = self._clusters, self._candidates
        shared, whole = loops.weigh_both(
            one.heads, one.entries, one.meta, other.heads, other.entries, other.meta,
            CLUSTER_COUNTS, self._logs, self._most, shingles.array, among.array,
        )  # fmt: skip
        return shared, whole

    def weigh_besides(self, shingles: Shingles, others: Shingles) -> int:
        """Return the bits (in fixed point) that those of these shingles weigh that are not among others."""
        among, whole = self.weigh_both(shingles, others)
        return whole - among

    def weights(self, shingles: Ints) -> Ints:
        """Return the bits (in fixed point) that each of these shingles weighs."""
        one, other = self._clusters, self._candidates
        return loops.weights(
            one.heads, one.entries, one.meta, other.heads, other.entries, other.meta,
            CLUSTER_COUNTS, self._logs, self._most, shingles,
        )  # fmt: skip


def _logs(most: int) -> Ints:
    """Return the binary logarithms (in fixed point) of the whole numbers from CLUSTER_COUNTS on."""
    logs: Ints = np.rint(BIT * np.log2(np.arange(CLUSTER_COUNTS, CLUSTER_COUNTS + most))).astype(np.int64)
    return logs
