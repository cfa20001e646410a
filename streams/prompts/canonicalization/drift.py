"""Tell whether the values of a slot come from elsewhere than they used to.

Pure. For each slot the newest values are compared with values that stand for all before them, by how they are
written: the two and three character sequences in them, their length, digits, capitals, lines and marks. And the
newest prompts are compared with earlier ones by how near they are to their cluster's centre of meaning. The
statistic is the maximum mean discrepancy: how much more alike things are within the two groups than across.

Intuition: shuffle two decks of cards together and deal two hands again, many times. If hardly any deal separates
the hands as clearly as they came, they came from different decks.

Rules
  1. Mean and spread are those of all shuffles there are (`permutation.py`); only their skew is taken from a fixed
     sample of them (`_hands`). All sums are of whole numbers, so the answer is the same everywhere.
  2. A drift is announced when the true deal is as rare among the shuffled ones as `DEVIATIONS_MIN` standard
     deviations. Measured where nothing had moved: the values of 79 real slots with 60 or more were split at random,
     24 against 16, a thousand times each; 16 of 80,000 splits came that far, one in 5,000. A cluster is
     looked at about 16 times in its first hundred members and then 11 times each time it doubles (`watching.py`).
  3. Values that run, as dates and counters do, are apart from earlier ones by their nature: no drift (`running.py`).
     Nor are those that come in bursts dealt anew with each prompt.
  4. Each drift of one version must be a standard deviation clearer than the last had to be: what moves ever again is
     known to move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from streams.prompts.canonicalization.cluster import MEANING_UNKNOWN, RECENT_MAX, ClusterState, Sample
from streams.prompts.canonicalization.columns import Columns, lay_out
from streams.prompts.canonicalization.compiled.kernels import (
    EDGE_CHARS,
    Whole,
    alike_as_written,
    alike_by_distance,
    dealt,
    sums,
    sums_as_written,
)
from streams.prompts.canonicalization.permutation import Sums, moments, sums_from, sums_of
from streams.prompts.canonicalization.running import run
from streams.prompts.canonicalization.tokens import LEFT_OUT

DEVIATIONS_MIN = 4.0  # see rule 2
BASE_VALUES_MIN = 12  # fewer do not show how much values vary anyway
DIFFERENT_MIN = 3  # values; a slot of one or two is a constant with a choice
SHUFFLES = 400
MIXERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64, a hash of whole numbers
SKEW_MIN = 0.1  # below, the shuffles are as good as normal
MEANING_STEP = 100  # millionths of a cosine: finer differences are rounding


@dataclass(frozen=True, slots=True)
class Drift:
    """Which slot moved, how clearly, and what its values look like before and after; no slot: the meaning moved."""

    slot: str | None
    deviations: float
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def reason(self) -> str:
        what = f"the values of {self.slot} come from elsewhere" if self.slot else "the prompts moved off their centre"
        return (
            f"{what}: the newest {RECENT_MAX} stand {self.deviations:.1f} standard deviations apart from earlier ones"
        )

    @property
    def details(self) -> dict[str, Any]:
        return {
            "slot": self.slot,
            "deviations": self.deviations,
            "examples_before": list(self.before),
            "examples_after": list(self.after),
        }


def moved(state: ClusterState, base: Sequence[Sample], newest: Sequence[Sample], columns: Columns) -> Drift | None:
    """Return the clearest drift among a cluster's slots, if any is clear enough.

    Args:
        columns: the values of the earlier and of the newest members, of all of them.
    """
    split = columns.split
    chosen = [
        slot
        for slot, (values, sketch) in enumerate(zip(columns.values, state.sketches, strict=True))
        if len(set(values)) >= DIFFERENT_MIN and not sketch.comes_in_bursts(values[split:])
    ]
    clear_from = DEVIATIONS_MIN + state.drifts
    best: Drift | None = None
    for slot, deviations in zip(chosen, deviations_between(columns, chosen), strict=True):
        if deviations < clear_from or (best is not None and deviations <= best.deviations):
            continue
        values = columns.values[slot]
        if not come_in_runs(values, [sample.arrived for sample in base]):
            name = state.versions[-1].template.names[slot]
            best = Drift(name, deviations, _few(values[:split]), _few(values[split:]))
    return best or _meaning_moved(base, newest, clear_from)


def _meaning_moved(base: Sequence[Sample], newest: Sequence[Sample], clear_from: float) -> Drift | None:
    """Return a drift if the newest members lie farther off the cluster's centre than the earlier ones did."""
    before = [sample.meaning // MEANING_STEP for sample in base if sample.meaning != MEANING_UNKNOWN]
    if len(before) < BASE_VALUES_MIN:
        return None
    after = [sample.meaning // MEANING_STEP for sample in newest if sample.meaning != MEANING_UNKNOWN]
    if len(after) < len(newest):
        return None  # the cluster was small again when they came
    # The centre follows its members, so coming nearer is its doing; only falling behind is theirs.
    if sum(after) * len(before) >= sum(before) * len(after):
        return None
    nearness = np.array([*before, *after], dtype=np.float64)
    deviations = deviations_of(alike_by_distance(nearness[:, None], 1), len(before))
    return Drift(None, deviations, (), ()) if deviations >= clear_from else None


def _few(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(LEFT_OUT.sub("…", value)[:EDGE_CHARS] for value in values[-3:])


def deviations_between(columns: Columns, chosen: Sequence[int]) -> list[float]:
    """Return for each chosen slot how far apart its newest values stand by how they are written."""
    if not chosen:
        return []
    split, things = columns.split, columns.sizes.shape[1]
    told = np.empty((len(chosen), 4), dtype=np.int64)
    sums_as_written(columns.written, columns.sizes, np.array(chosen), split, told)
    weights, found = _deal(split, things - split), []
    for slot, (total, squares, by_row, dealt_so) in zip(chosen, told.tolist(), strict=True):
        mean, spread = moments(sums_from(things, total, squares, by_row), weights)
        deviations = round(float(dealt_so - mean) / spread, 2)
        # Of those that are clear, all there is to be known.
        clear = deviations >= DEVIATIONS_MIN
        found.append(deviations_of(_alike_as_written(columns.values[slot]), split) if clear else deviations)
    return found


def come_in_runs(values: Sequence[str], arrived: Sequence[int]) -> bool:
    """Tell whether the values of a slot run, each near the one before.

    Args:
        values: the earlier ones, then the newest in the order they came.
        arrived: when each of the earlier ones came.
    """
    split = len(arrived)
    in_order = [*sorted(range(split), key=arrived.__getitem__), *range(split, len(values))]
    return run(_alike_as_written([values[place] for place in in_order]), split)


def _alike_as_written(values: Sequence[str]) -> Whole:
    return alike_as_written(*lay_out(values))


def deviations_of(alike: Whole, split: int) -> float:
    """Return how far apart the first `split` things stand from the rest, in standard deviations of all deals.

    `alike[i, j]` says, in whole numbers, how much two things are alike; nothing is on the diagonal.

    Where values are few, the deals are skewed and far ones are not rare. So they are taken for a gamma
    distribution and the true deal for the quantile of the normal distribution that is as rare (Wilson and Hilferty).
    """
    things = len(alike)
    *of_alike, dealt_so = sums(alike, split)
    mean, spread = moments(sums_from(things, *of_alike), _deal(split, things - split))
    deviations = float(dealt_so - mean) / spread
    if deviations < DEVIATIONS_MIN:
        return round(deviations, 2)
    # How skewed the deals are is told by a sample of them.
    shares = np.rint((dealt(alike, _hands(split, things - split)) - mean) * (1024 / spread))
    skew: float = int((shares**3).sum()) / (len(shares) * 1024**3)
    if skew <= SKEW_MIN:
        return round(deviations, 2)
    shape = 4 / skew**2
    scaled = max(0.0, 1 + deviations / math.sqrt(shape))
    quantile: float = (scaled ** (1 / 3) - 1 + 1 / (9 * shape)) * 3 * math.sqrt(shape)
    return round(quantile, 2)


@lru_cache(maxsize=256)
def _deal(first: int, second: int) -> Sums:
    """Return the sums of the weights of a deal, the same for all of them."""
    hand = np.concatenate([np.full(first, float(second)), np.full(second, -float(first))])
    weights = np.outer(hand, hand)
    np.fill_diagonal(weights, 0)
    return sums_of(weights)


@lru_cache(maxsize=256)
def _hands(first: int, second: int) -> Whole:
    """Return fixed shuffles of the true deal: a row holds `second` for one hand, -`first` for the other."""
    cards = first + second
    # What comes before would be the keys of the true deal.
    keys = np.arange(cards, (SHUFFLES + 1) * cards, dtype=np.uint64).reshape(-1, cards)
    for factor in MIXERS:
        keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(factor)
    order = np.argsort(keys, axis=1, kind="stable")
    deals = np.full((SHUFFLES, cards), -float(first))
    np.put_along_axis(deals, order[:, :first], second, axis=1)
    return deals
