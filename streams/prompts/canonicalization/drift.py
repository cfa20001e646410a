"""Tell whether the values of a slot come from elsewhere than they used to.

Pure. For each slot the newest values are compared with values that stand for all before them, by how they are
written: the two and three character sequences in them, their length, digits, capitals, lines and marks. And the
newest prompts are compared with earlier ones by how near they are to their cluster's centre of meaning. The
statistic is the maximum mean discrepancy: how much more alike things are within the two groups than across.

Intuition: shuffle two decks of cards together and deal two hands again, many times. If hardly any deal separates
the hands as clearly as they came, they came from different decks.

Rules
  1. The shuffles are fixed (`_shuffles`), and all sums are of whole numbers, so the answer is the same everywhere.
  2. A drift is announced when the true deal is as rare among the shuffled ones as `DEVIATIONS_MIN` standard
     deviations. Of 71,000 random splits of the values of 283 real slots, one in 12,000 came that far. A cluster is
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
import xxhash
from numpy.typing import NDArray

from streams.prompts.canonicalization.cluster import CURRENT, MEANING_UNKNOWN, RECENT_MAX, ClusterState, Sample

DEVIATIONS_MIN = 4.0  # see rule 2
BASE_VALUES_MIN = 12  # fewer do not show how much values vary anyway
DIFFERENT_MIN = 3  # values; a slot of one or two is a constant with a choice
SHUFFLES = 400
SKEW_MIN = 0.1  # below, the shuffles are as good as normal
BUCKETS = 512  # of character sequences; collisions blur, they do not bias
EDGE_CHARS = 200  # of a long value, from each end
SCALE = 256  # of a profile's length, in whole numbers
MARKS_SCALE = 64
MEANING_STEP = 100  # millionths of a cosine: finer differences are rounding

# Kinds of bytes in UTF-8, in the order `profile` counts them; what no pattern names is `other` (0) or foreign (7).
KINDS = ("", " \t\r", "\n", string.digits, string.ascii_uppercase, string.punctuation.replace("?", ""), "?", "")
KIND_OF_BYTE = np.array([7 * (byte >= 128) for byte in range(256)])
for _kind, _characters in enumerate(KINDS):
    KIND_OF_BYTE[[ord(character) for character in _characters]] = _kind

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
    rows = [(sample, values) for sample in (*base, *newest) if (values := template.parse(sample.text)) is not None]
    if len(rows) < len(base) + len(newest):
        return None
    best: Drift | None = None
    for slot, name in enumerate(template.names):
        values = [row[slot] for _, row in rows]
        if len(set(values)) < DIFFERENT_MIN:
            continue
        profiles = [_profile(sample, slot, row[slot]) for sample, row in rows]
        deviations = deviations_of(_alike_by_sequences(profiles) + _alike_by_marks(profiles), len(base))
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
    return tuple(value[:EDGE_CHARS] for value in values[-3:])


def _profile(sample: Sample, slot: int, value: str) -> tuple[Whole, Whole]:
    """Return a value's profile, from the sample's memory if it was made before."""
    known = sample.profiles.get(slot)
    if known is None:
        known = sample.profiles[slot] = profile(value)
    return known


def profile(value: str) -> tuple[Whole, Whole]:
    """Return how a value is written: its character sequences, and its marks."""
    edges = value if len(value) <= 2 * EDGE_CHARS else value[:EDGE_CHARS] + value[-EDGE_CHARS:]
    raw = np.frombuffer(f" {edges} ".encode("utf-8", "surrogatepass"), dtype=np.uint8)
    wide = raw.astype(np.uint64)
    pairs = (wide[:-1] * 257 + wide[1:]) * 40_503
    triples = (wide[:-2] * 65_537 + wide[1:-1] * 257 + wide[2:]) * 48_271 + 7
    buckets = (np.concatenate([pairs, triples]) >> np.uint64(3)) % BUCKETS
    # The square root keeps one frequent sequence from being the whole profile.
    roots = np.sqrt(np.bincount(buckets.astype(np.int64), minlength=BUCKETS))
    sequences = np.rint(roots * (SCALE / math.sqrt(max(1, len(buckets)))))
    counts = np.bincount(KIND_OF_BYTE[raw], minlength=len(KINDS)).tolist()
    other, space, line, digit, upper, mark, question, foreign = counts
    chars = len(raw)
    marks = [
        math.log1p(len(value)) / 2,
        4 * digit / chars,
        4 * upper / chars,
        math.log1p(line),
        4 * (mark + question) / chars,
        (other + upper + digit + foreign) / (space + line) / 5,  # about the length of a word
        float(question > 0),
        foreign / chars,
    ]
    return sequences, np.rint(np.array(marks) * MARKS_SCALE)


def deviations_of(alike: Whole, split: int) -> float:
    """Return how far apart the first `split` things stand from the rest, in standard deviations of the shuffles.

    `alike[i, j]` says, in whole numbers, how much two things are alike.

    Where values are few, the shuffles are skewed and far ones are not rare. So they are taken for a gamma
    distribution and the true deal for the quantile of the normal distribution that is as rare (Wilson and Hilferty).
    """
    np.fill_diagonal(alike, 0)
    hands = _shuffles(split, len(alike) - split)
    true, *shuffled = ((hands @ alike) * hands).sum(axis=1).astype(np.int64).tolist()
    count, total = len(shuffled), sum(shuffled)
    centred = [count * value - total for value in shuffled]  # whole numbers, `count` times as large
    spread = max(1, math.isqrt(sum(value * value for value in centred) // count))
    deviations: float = (count * true - total) / spread
    skew: float = sum(value**3 for value in centred) / (count * spread**3)
    if skew <= SKEW_MIN:
        return round(deviations, 2)
    shape = 4 / skew**2
    scaled = max(0.0, 1 + deviations / math.sqrt(shape))
    quantile: float = (scaled ** (1 / 3) - 1 + 1 / (9 * shape)) * 3 * math.sqrt(shape)
    return round(quantile, 2)


def _alike_by_sequences(profiles: Sequence[tuple[Whole, Whole]]) -> Whole:
    block = np.array([sequences for sequences, _ in profiles])
    # A transposed view would take BLAS down a path that waits for other threads, a hundred times slower.
    return _normed(block @ np.ascontiguousarray(block.T))


def _alike_by_marks(profiles: Sequence[tuple[Whole, Whole]]) -> Whole:
    # The floor keeps a mark that hardly varies from shouting.
    return _alike_by_distance(np.array([marks for _, marks in profiles]), floor=(MARKS_SCALE // 20 + 1) ** 2)


def _alike_by_distance(block: Whole, *, floor: int) -> Whole:
    """Return how alike rows are whose columns are measures of their own, each by its variance."""
    spread = (block * block).sum(axis=0) * len(block) - block.sum(axis=0) ** 2
    variance = spread // (len(block) ** 2) + floor
    differences = (block[:, None, :] - block[None, :, :]) ** 2
    distance = (differences * 64 // variance).sum(axis=2) // block.shape[1]
    return _normed((1 << 22) // (64 + distance))


def _normed(alike: Whole) -> Whole:
    """Scale a matrix so that its off-diagonal entries vary by about 1,024."""
    others = alike[~np.eye(len(alike), dtype=bool)]
    count, total, squares = len(others), int(others.sum()), int((others * others).sum())
    spread = max(1, math.isqrt(max(0, count * squares - total * total)) // count)
    mean = total // count
    return (alike - mean) * 1024 // spread


@lru_cache(maxsize=256)
def _shuffles(first: int, second: int) -> Whole:
    """Return the true deal and fixed shuffles of it: a row holds `second` for one hand, -`first` for the other."""
    deals = np.empty((SHUFFLES + 1, first + second))
    for deal in range(SHUFFLES + 1):
        order = list(range(first + second))
        if deal:
            order.sort(key=lambda card, deal=deal: xxhash.xxh3_64_intdigest(f"{deal}/{card}".encode()))  # type: ignore[misc]
        deals[deal, order[:first]] = second
        deals[deal, order[first:]] = -first
    return deals
