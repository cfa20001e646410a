"""Which cluster a prompt belongs to: gate one weighs structure, gate two asks for meaning where structure is silent.

Gate one: a prompt belongs to a cluster when it holds at least `cover_percent` of the cluster's weighted constants. Of two
such clusters the more specific one wins when one set of shared constants contains the other (a sibling template with an
extra sentence); otherwise the one with more support, heavier constants and the ends of the prompt among them.
Gate two: between structural near-ties the nearer centroid decides; and a prompt too short to have structure joins the
nearest cluster it shares at least half of the constants with, if their meaning is close.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from streams.prompts.clustering.cluster import Cluster, Kept, Vector
from streams.prompts.clustering.sketch import Sketch, anchors
from streams.prompts.clustering.state import State

CANDIDATES_MAX = 16  # clusters weighed for a prompt, by number of shared constants
POSTINGS_MAX = 256  # a shingle that more clusters than this hold does not tell them apart
CONTAINED_PERCENT = 70  # of the lighter of two sets, from which one is said to contain the other
SHORT_SHINGLES_MAX = 12  # a prompt of fewer tokens may be placed by meaning
# A template's ends are its most reliable constants: the factor for signatures that hold none, one, both of them.
ANCHOR_FACTORS = (0.2, 1.0, 2.5)


@dataclass(slots=True)
class Candidate:
    """A cluster weighed against a prompt. Weights are fixed-point bits."""

    cluster: Cluster
    shared: frozenset[int]
    shared_weight: int
    whole_weight: int
    covers: bool
    _cosine: float | None = field(default=None)

    @property
    def share(self) -> float:
        """Share of the cluster's weighted constants that the prompt holds, 0..1."""
        return self.shared_weight / self.whole_weight if self.whole_weight else 0.0

    @property
    def score(self) -> float:
        return score(self.cluster.size, self.shared_weight, anchors(self.shared))

    def cosine(self, vector: Vector) -> float:
        if self._cosine is None:
            self._cosine = self.cluster.cosine(vector)
        return self._cosine


@dataclass(frozen=True, slots=True)
class Match:
    """The cluster chosen (if any), the nearest two, and the gate that decided."""

    chosen: Candidate | None
    nearest: Candidate | None
    second: Candidate | None
    gate: str


def score(support: int, weight: int, ends: int) -> float:
    """How well constants of this weight, held by this many prompts, explain a prompt."""
    return support * math.sqrt(weight) * ANCHOR_FACTORS[ends] if weight > 0 else 0.0


def weigh_cluster(state: State, cluster: Cluster, shingles: frozenset[int]) -> Candidate:
    """Weigh a cluster against a prompt's shingles."""
    signature = cluster.signature
    shared = signature & shingles
    whole = state.evidence.weigh(signature)
    if len(shared) == len(signature):
        return Candidate(cluster, shared, whole, whole, bool(signature))
    weight = whole - state.evidence.weigh(signature - shared)
    enough = 2 * len(shared) >= len(signature) and 100 * weight >= state.policy.cover_percent * whole
    return Candidate(cluster, shared, weight, whole, enough)


def covers(state: State, cluster: Cluster, kept: Kept) -> bool:
    """Tell whether a kept prompt holds enough of a cluster's constants."""
    shared = cluster.signature & kept.shingles
    if len(shared) == len(cluster.signature):
        return bool(shared)
    return 2 * len(shared) >= len(cluster.signature) and weigh_cluster(state, cluster, kept.shingles).covers


def explains_better(state: State, one: Candidate, other: Candidate, vector: Vector) -> bool:
    """Tell whether `one` explains a prompt better than `other`, both covering it."""
    both = state.evidence.weigh(one.shared & other.shared)
    if 100 * both >= CONTAINED_PERCENT * min(one.shared_weight, other.shared_weight):
        here, there = float(one.shared_weight), float(other.shared_weight)
    else:
        here, there = one.score, other.score
    if abs(here - there) * 100 >= state.policy.tie_percent * max(here, there):
        return here > there
    near, far = one.cosine(vector), other.cosine(vector)
    return (near, here, -one.cluster.ordinal) > (far, there, -other.cluster.ordinal)


def match(state: State, sketch: Sketch, vector: Vector) -> Match:
    """Return where a prompt belongs."""
    lists = [held for held in map(state.by_constant.get, sketch.order) if held and len(held) <= POSTINGS_MAX]
    votes = Counter(chain.from_iterable(lists))
    ranked = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:CANDIDATES_MAX]
    best: Candidate | None = None
    rest: list[Candidate] = []
    for ordinal, shared in ranked:
        cluster = state.clusters[ordinal]
        if 2 * shared < len(cluster.signature) and len(rest) > 1:
            continue
        candidate = weigh_cluster(state, cluster, sketch.shingles)
        if candidate.covers and (best is None or explains_better(state, candidate, best, vector)):
            if best is not None:
                rest.append(best)
            best = candidate
        else:
            rest.append(candidate)
    rest.sort(key=lambda candidate: (-candidate.covers, -candidate.share, candidate.cluster.ordinal))
    if best is not None:
        return Match(best, best, rest[0] if rest else None, "structure")
    return _match_meaning(state, sketch, vector, rest)


def _match_meaning(state: State, sketch: Sketch, vector: Vector, candidates: list[Candidate]) -> Match:
    nearest, second = [*candidates[:2], None, None][:2]
    if len(sketch.order) <= SHORT_SHINGLES_MAX:
        for candidate in candidates:
            half = 2 * candidate.shared_weight >= candidate.whole_weight
            if half and not candidate.cluster.retired and candidate.cosine(vector) >= state.policy.meaning_min:
                other = next((one for one in candidates if one is not candidate), None)
                return Match(candidate, candidate, other, "meaning")
    return Match(None, nearest, second, "none")
