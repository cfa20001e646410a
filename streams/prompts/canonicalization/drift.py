"""Tell whether the values of a slot come from elsewhere than they used to.

Pure. For each slot the newest values are compared with values that stand for all before them, by how they are
written: the two and three character sequences in them, their length, digits, capitals, lines and marks. And the
newest prompts are compared with earlier ones by how near they are to their cluster's centre of meaning. The
statistic is the maximum mean discrepancy: how much more alike things are within the two groups than across.

Intuition: shuffle two decks of cards together and deal two hands again, many times. If hardly any deal separates
the hands as clearly as they came, they came from different decks.

Rules
  1. Mean and spread are those of all shuffles there are (`_of_all_deals`); only their skew is taken from a fixed
     sample of them (`_hands`). All sums are of whole numbers, so the answer is the same everywhere.
  2. A drift is announced when the true deal is as rare among the shuffled ones as `DEVIATIONS_MIN` standard
     deviations. Measured where nothing had moved: the values of 79 real slots with 60 or more were split at random,
     24 against 16, a thousand times each; 16 of 80,000 splits came that far, one in 5,000. A cluster is
     looked at about 16 times in its first hundred members and then 11 times each time it doubles (`watching.py`).
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.prompts.canonicalization.cluster import CURRENT, MEANING_UNKNOWN, RECENT_MAX, ClusterState, Sample
from streams.prompts.canonicalization.tokens import LEFT_OUT

DEVIATIONS_MIN = 4.0  # see rule 2
BASE_VALUES_MIN = 12  # fewer do not show how much values vary anyway
DIFFERENT_MIN = 3  # values; a slot of one or two is a constant with a choice
SHUFFLES = 400
MIXERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64, a hash of whole numbers
SKEW_MIN = 0.1  # below, the shuffles are as good as normal
BUCKETS = 512  # of character sequences; collisions blur, they do not bias
GOLDEN = np.uint32(2_654_435_769)  # 2**32 by the golden ratio: multiples of it spread evenly
EDGE_CHARS = 200  # of a long value, from each end
SCALE = 256  # of a profile's length, in whole numbers
MARKS_SCALE = 64
MEANING_STEP = 100  # millionths of a cosine: finer differences are rounding

# Kinds of bytes in UTF-8, in the order `profile` counts them; what no pattern names is `other` (0) or foreign (7).
KINDS = ("", " \t\r", "\n", string.digits, string.ascii_uppercase, string.punctuation.replace("?", ""), "?", "")
KIND_OF_BYTE = np.array([7 * (byte >= 128) for byte in range(256)])
for _kind, _characters in enumerate(KINDS):
    KIND_OF_BYTE[[ord(character) for character in _characters]] = _kind

Few = NDArray[np.float32]  # holds whole numbers whose products add up to less than 2**24
Whole = NDArray[np.float64]  # holds whole numbers below 2**53 only, so that BLAS may add them in any order


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


def moved(state: ClusterState) -> Drift | None:
    """Return the clearest drift among a cluster's slots, if any is clear enough."""
    newest = [sample for sample in state.recents() if sample.reading == CURRENT]
    base = list(state.bases())
    if len(newest) < RECENT_MAX or len(base) < BASE_VALUES_MIN:
        return None
    template = state.versions[-1].template
    rows = [values for sample in (*base, *newest) if (values := template.parse(sample.text)) is not None]
    if len(rows) < len(base) + len(newest):
        return None
    best: Drift | None = None
    for slot, name in enumerate(template.names):
        values = [row[slot] for row in rows]
        if len(set(values)) < DIFFERENT_MIN:
            continue
        deviations = deviations_between(values, len(base))
        if deviations >= DEVIATIONS_MIN and (best is None or deviations > best.deviations):
            best = Drift(name, deviations, _few(values[: len(base)]), _few(values[len(base) :]))
    return best or _meaning_moved(base, newest)


def _meaning_moved(base: Sequence[Sample], newest: Sequence[Sample]) -> Drift | None:
    """Return a drift if the newest members lie farther off the cluster's centre than the earlier ones did."""
    known = [sample.meaning // MEANING_STEP for sample in base if sample.meaning != MEANING_UNKNOWN]
    if len(known) < BASE_VALUES_MIN:
        return None
    nearness = np.array([*known, *(sample.meaning // MEANING_STEP for sample in newest)], dtype=np.float64)
    before, after = nearness[: len(known)], nearness[len(known) :]
    # The centre follows its members, so coming nearer is its doing; only falling behind is theirs.
    if int(after.sum()) * len(before) >= int(before.sum()) * len(after):
        return None
    deviations = deviations_of(_alike_by_distance(nearness[:, None], floor=1), len(known))
    return Drift(None, deviations, (), ()) if deviations >= DEVIATIONS_MIN else None


def _few(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(LEFT_OUT.sub("…", value)[:EDGE_CHARS] for value in values[-3:])


def profiles(values: Sequence[str]) -> tuple[Few, Whole]:
    """Return how values are written, a row each: their character sequences, and their marks."""
    edges = [value if len(value) <= 2 * EDGE_CHARS else value[:EDGE_CHARS] + value[-EDGE_CHARS:] for value in values]
    encoded = [f" {edge} ".encode("utf-8", "surrogatepass") for edge in edges]
    raw = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    chars = np.array([len(value) for value in encoded])
    row = np.repeat(np.arange(len(values)), chars)
    wide = raw.astype(np.uint32)
    pairs = (wide[:-1] * 257 + wide[1:]) * GOLDEN
    triples = (wide[:-2] * 65_537 + wide[1:-1] * 257 + wide[2:] + 7) * GOLDEN
    within, throughout = row[:-1] == row[1:], row[:-2] == row[2:]  # a sequence belongs to one value
    buckets = np.concatenate([pairs[within], triples[throughout]]) >> np.uint32(32 - BUCKETS.bit_length() + 1)
    owners = np.concatenate([row[:-1][within], row[:-2][throughout]])
    counts = np.bincount(owners * BUCKETS + buckets, minlength=len(values) * BUCKETS).reshape(-1, BUCKETS)
    # The square root keeps one frequent sequence from being the whole profile.
    roots = np.sqrt(counts.astype(np.float32))
    sequences = np.rint(roots * (SCALE / np.sqrt(2 * chars - 3)).astype(np.float32)[:, None])
    kinds = np.bincount(row * len(KINDS) + KIND_OF_BYTE[raw], minlength=len(values) * len(KINDS))
    other, space, line, digit, upper, mark, question, foreign = kinds.reshape(-1, len(KINDS)).T.astype(np.float64)
    marks = [
        np.array([math.log1p(len(value)) / 2 for value in values]),
        4 * digit / chars,
        4 * upper / chars,
        np.array([math.log1p(lines) for lines in line.tolist()]),
        4 * (mark + question) / chars,
        (other + upper + digit + foreign) / (space + line) / 5,  # about the length of a word
        (question > 0).astype(np.float64),
        foreign / chars,
    ]
    return sequences, np.rint(np.array(marks).T * MARKS_SCALE)


def deviations_between(values: Sequence[str], split: int) -> float:
    """Return how far apart the first `split` values stand from the rest by how they are written."""
    sequences, marks = profiles(values)
    return deviations_of(_alike_by_sequences(sequences) + _alike_by_marks(marks), split)


def deviations_of(alike: Whole, split: int) -> float:
    """Return how far apart the first `split` things stand from the rest, in standard deviations of all deals.

    `alike[i, j]` says, in whole numbers, how much two things are alike.

    Where values are few, the deals are skewed and far ones are not rare. So they are taken for a gamma
    distribution and the true deal for the quantile of the normal distribution that is as rare (Wilson and Hilferty).
    """
    np.fill_diagonal(alike, 0)
    mean, spread = _of_all_deals(alike, split)
    true = _dealt(alike, _hands(split, len(alike) - split)[:1])[0]
    deviations = float(true - mean) / spread
    if deviations < DEVIATIONS_MIN:
        return round(deviations, 2)
    # How skewed the deals are is told by a sample of them.
    shares = np.rint((_dealt(alike, _hands(split, len(alike) - split)[1:]) - mean) * (1024 / spread))
    skew: float = int((shares**3).sum()) / (len(shares) * 1024**3)
    if skew <= SKEW_MIN:
        return round(deviations, 2)
    shape = 4 / skew**2
    scaled = max(0.0, 1 + deviations / math.sqrt(shape))
    quantile: float = (scaled ** (1 / 3) - 1 + 1 / (9 * shape)) * 3 * math.sqrt(shape)
    return round(quantile, 2)


def _dealt(alike: Whole, hands: Whole) -> Whole:
    dealt: Whole = ((hands @ alike) * hands).sum(axis=1)
    return dealt


def _of_all_deals(alike: Whole, first: int) -> tuple[int, int]:
    """Return mean and standard deviation of the statistic over all deals, from the moments of a hand's entries."""
    things, second = len(alike), len(alike) - first
    rows = alike.sum(axis=1)
    total, squares, by_row = int(rows.sum()), int((alike * alike).sum()), int((rows * rows).sum())
    two = things * first * second  # the sum of the squares of a hand's entries, and of their fourth powers
    four = first * second * (first**3 + second**3)
    pairs = things * (things - 1)
    threes, fours = pairs * (things - 2), pairs * (things - 2) * (things - 3)
    apart = total**2 - 2 * squares - 4 * (by_row - squares)
    mean = -total * two // pairs
    second_moment = (
        2 * squares * (two**2 - four) // pairs
        + 4 * (by_row - squares) * (2 * four - two**2) // threes
        + apart * (3 * two**2 - 6 * four) // fours
    )
    return mean, max(1, math.isqrt(max(0, second_moment - mean**2)))


def _alike_by_sequences(sequences: Few) -> Whole:
    # A transposed view would take BLAS down a path that waits for other threads, a hundred times slower.
    return _normed((sequences @ np.ascontiguousarray(sequences.T)).astype(np.float64))


def _alike_by_marks(marks: Whole) -> Whole:
    # The floor keeps a mark that hardly varies from shouting.
    return _alike_by_distance(marks, floor=(MARKS_SCALE // 20 + 1) ** 2)


def _alike_by_distance(block: Whole, *, floor: int) -> Whole:
    """Return how alike rows are whose columns are measures of their own, each by its variance."""
    spread = (block * block).sum(axis=0) * len(block) - block.sum(axis=0) ** 2
    variance = spread // (len(block) ** 2) + floor
    scaled = np.rint(block * (64 / np.sqrt(variance)))
    products = scaled @ np.ascontiguousarray(scaled.T)
    squares = products.diagonal()
    distance = (squares[:, None] + squares[None, :] - 2 * products) // (64 * block.shape[1])
    return _normed(np.rint((1 << 22) / (64 + distance)))


def _normed(alike: Whole) -> Whole:
    """Scale a matrix so that its off-diagonal entries vary by about 1,024."""
    count = len(alike) * (len(alike) - 1)
    own = alike.diagonal()
    total, squares = int(alike.sum() - own.sum()), int((alike * alike).sum() - (own * own).sum())
    spread = max(1, math.isqrt(max(0, count * squares - total * total)) // count)
    return np.rint((alike - total // count) * (1024 / spread))


@lru_cache(maxsize=256)
def _hands(first: int, second: int) -> Whole:
    """Return the true deal and fixed shuffles of it: a row holds `second` for one hand, -`first` for the other."""
    cards = first + second
    keys = np.arange((SHUFFLES + 1) * cards, dtype=np.uint64).reshape(-1, cards)
    for factor in MIXERS:
        keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(factor)
    order = np.argsort(keys, axis=1, kind="stable")
    order[0] = np.arange(cards)
    deals = np.full((SHUFFLES + 1, cards), -float(first))
    np.put_along_axis(deals, order[:, :first], second, axis=1)
    return deals
