"""Which cluster a prompt belongs to: gate one weighs structure, gate two asks for meaning where structure is silent.

Gate one: a prompt belongs to a cluster when it holds at least `cover_percent` of the cluster's weighted constants. Of
two such clusters the more specific one wins when one set of shared constants contains the other (a sibling template
with an extra sentence), and of two about as specific the one whose constants the prompt lacks less of (a sibling with
a few other words); otherwise the one with more support, heavier constants and the prompt's ends among them.
Gate two: between structural near-ties the nearer centroid decides; and a prompt too short to have structure joins the
nearest cluster it shares at least half of the constants with, if their meaning is close.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.compiled.sets import count_both
from streams.prompts.clustering.policy import BIT
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.state import State

CANDIDATES_MAX = 16  # clusters weighed for a prompt, by number of shared constants
POSTINGS_MAX = 256  # a shingle that more clusters than this hold does not tell them apart
CONTAINED_PERCENT = 70  # of the lighter of two sets, from which one is said to contain the other
SHORT_SHINGLES_MAX = 12  # a prompt of fewer tokens may be placed by meaning
# A template's ends are its most reliable constants: the factor for signatures that hold none, one, both of them.
ANCHOR_FACTORS = (0.2, 1.0, 2.5)


class Candidate:
    """A cluster weighed against a prompt. Weights are fixed-point bits, computed when first asked for."""

    __slots__ = ("_cosine", "_evidence", "_shared", "_shingles", "_weights", "cluster", "covers", "held")

    def __init__(self, state: State, cluster: Cluster, shingles: Shingles, held: int | None = None) -> None:
        self.cluster = cluster
        # How many of the constants the prompt holds.
        self.held: int = count_both(cluster.signature.array, shingles.array) if held is None else held
        self._shingles = shingles
        self._evidence = state.evidence
        self._shared: Shingles | None = None
        self._weights: tuple[int, int] | None = None
        self._cosine: float | None = None
        self.covers = self._covers(state.policy.cover_percent)

    @property
    def shared(self) -> Shingles:
        """The constants that the prompt holds."""
        if self._shared is None:
            self._shared = self.cluster.signature & self._shingles
        return self._shared

    @property
    def whole_weight(self) -> int:
        return self._weigh()[1]

    @property
    def shared_weight(self) -> int:
        return self._weigh()[0]

    def _weigh(self) -> tuple[int, int]:
        if self._weights is None:
            self._weights = self._evidence.weigh_both(self.cluster.signature, self._shingles)
        return self._weights

    @property
    def count_share(self) -> float:
        """Share of the constants by number: a cheap stand-in for `share` to rank by."""
        return self.held / max(1, self.cluster.signature.size)

    @property
    def share(self) -> float:
        """Share of the cluster's weighted constants that the prompt holds, 0..1."""
        if self.held == self.cluster.signature.size:
            return 1.0 if self.held else 0.0
        return self.shared_weight / self.whole_weight if self.whole_weight else 0.0

    @property
    def score(self) -> float:
        return score(self.cluster.size, self.shared_weight, self.shared.ends)

    @property
    def balance(self) -> float:
        """What the prompt holds of the cluster's weighted constants, less what it lacks."""
        return float(2 * self.shared_weight - self.whole_weight)

    def cosine(self, kept: Kept) -> float:
        if self._cosine is None:
            self._cosine = self.cluster.cosine(kept)
        return self._cosine

    def _covers(self, cover_percent: int) -> bool:
        held, whole = self.held, self.cluster.signature.size
        if held == whole:
            return held > 0
        return 2 * held >= whole and 100 * self.shared_weight >= cover_percent * self.whole_weight


class Match(NamedTuple):
    """The cluster chosen (if any), the nearest two, and the gate that decided."""

    chosen: Candidate | None
    nearest: Candidate | None
    second: Candidate | None
    gate: str


def score(support: int, weight: int, ends: int) -> float:
    """How well constants of this weight, held by this many prompts, explain a prompt."""
    return support * math.sqrt(weight) * ANCHOR_FACTORS[ends] if weight > 0 else 0.0


def explains_better(state: State, one: Candidate, other: Candidate, kept: Kept) -> bool:
    """Tell whether `one` explains a prompt better than `other`, both covering it."""
    here, there, tie = _scores(state, one, other)
    if not tie:
        return here > there
    near, far = one.cosine(kept), other.cosine(kept)
    return (near, here, -one.cluster.ordinal) > (far, there, -other.cluster.ordinal)


def _scores(state: State, one: Candidate, other: Candidate) -> tuple[float, float, bool]:
    """Return what the structural gate compares two clusters by, and whether that is a tie.

    If one contains the other, the more specific one is better. Siblings that differ in a few fixed words are almost
    alike in this, so then what a prompt lacks of a cluster speaks against it.
    """
    both = state.evidence.weigh(one.shared & other.shared)
    contained = 100 * both >= CONTAINED_PERCENT * min(one.shared_weight, other.shared_weight)
    here, there = (float(one.shared_weight), float(other.shared_weight)) if contained else (one.score, other.score)
    close = abs(here - there) * 100 < state.policy.tie_percent * max(here, there)
    if not (close and contained):
        return here, there, close
    here, there = one.balance, other.balance
    return here, there, abs(here - there) < state.policy.evidence_bits * BIT


def match(state: State, kept: Kept) -> Match:
    """Return where a prompt belongs."""
    order, shingles = kept.sketch
    best: Candidate | None = None
    rest: list[Candidate] = []
    nearest, complete = state.by_constant.foremost(order, POSTINGS_MAX, CANDIDATES_MAX)
    for ordinal, shared in nearest:
        cluster = state.clusters[ordinal]
        if 2 * shared < cluster.signature.size and rest:
            continue  # cannot cover, and the record already has a second
        candidate = Candidate(state, cluster, shingles, shared if complete else None)
        if candidate.covers and (best is None or explains_better(state, candidate, best, kept)):
            if best is not None:
                rest.append(best)
            best = candidate
        else:
            rest.append(candidate)
    if len(rest) > 1:
        rest.sort(key=lambda candidate: (-candidate.covers, -candidate.count_share, candidate.cluster.ordinal))
    if best is not None:
        second = rest[0] if rest else None
        tie = second is not None and second.covers and _scores(state, best, second)[2]
        return Match(best, best, second, "tie" if tie else "structure")
    return _match_meaning(state, kept, rest)


def _match_meaning(state: State, kept: Kept, candidates: list[Candidate]) -> Match:
    nearest, second = [*candidates[:2], None, None][:2]
    if len(kept.sketch.order) <= SHORT_SHINGLES_MAX:
        for candidate in candidates:
            half = 2 * candidate.shared_weight >= candidate.whole_weight
            if half and not candidate.cluster.retired and candidate.cosine(kept) >= state.policy.meaning_min:
                other = next((one for one in candidates if one is not candidate), None)
                return Match(candidate, candidate, other, "meaning")
    return Match(None, nearest, second, "none")
