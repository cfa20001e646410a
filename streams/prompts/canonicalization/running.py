"""Tell whether the values of a slot run: each near the one before, as dates, counters and order numbers are.

Pure. Values that run are always apart from earlier ones. That is their way, and nothing has changed.

Intuition: lay the values out in the order they came. Where neighbours are more alike than any two, time has a hand
in them. The two sides of a supposed change are looked at apart, for a real one puts them in an order, too.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from streams.prompts.canonicalization.compiled.kernels import Whole
from streams.prompts.canonicalization.permutation import Sums, moments, sums_of

# In standard deviations of all orders. Both sides must run: where a real change fell amid the newest, these alone are
# in an order of their own, old and then new; and dates that give way to names ran only before.
SIDE_MIN = 0.5
RUNNING_MIN = 2.0  # of both sides together


def run(alike: Whole, split: int) -> bool:
    """Tell whether things run, before a place and from it on.

    `alike[i, j]` says, in whole numbers, how much two things are alike; both are in the order they came, and nothing
    is on the diagonal.
    """
    sides = _deviations(alike[:split, :split]), _deviations(alike[split:, split:])
    return min(sides) >= SIDE_MIN and sum(sides) / math.sqrt(2) >= RUNNING_MIN


def _deviations(alike: Whole) -> float:
    """Return how much more alike things are the nearer they came, in standard deviations of all orders."""
    alike = np.ascontiguousarray(alike)
    nearness, sums = _nearness(len(alike))
    mean, spread = moments(sums_of(alike), sums)
    return (int((alike * nearness).sum()) - mean) / spread


@lru_cache(maxsize=64)
def _nearness(things: int) -> tuple[Whole, Sums]:
    places = np.arange(things, dtype=np.float64)
    nearness = -np.abs(places[:, None] - places[None, :])
    return nearness, sums_of(nearness)
