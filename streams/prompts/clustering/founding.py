"""When waiting prompts turn out to be filled from one template.

A newcomer is compared with the pool: waiting prompts and the members of young clusters. What it shares with its
nearest neighbours, and what many of the pool hold, are proposals for constants. A proposal is worth a cluster when
enough prompts hold it and it makes up enough of them: the fewer the witnesses, the larger the share, so that a long
slot cannot hide a template for ever, yet two prompts about one document do not make one. Inside an existing cluster a
more specific one needs more witnesses, and wording of its own rather than a repeated slot value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress

import numpy as np

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.layout import Layout, lay
from streams.prompts.clustering.match import CONTAINED_PERCENT, Candidate, score
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.phrases import is_phrase
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.sketch import SHINGLES_MAX, anchors
from streams.prompts.clustering.state import State

POSTINGS_MAX = 64  # newest candidates looked at for one shingle
PLACE_BITS = (SHINGLES_MAX - 1).bit_length()  # of a shingle's place among the newcomer's
CANDIDATES_MAX = 64  # prompts of the pool that a newcomer is compared with, those that share the most
NEIGHBOURS = 3  # candidates whose overlap with the newcomer is a proposal
COMMON_COUNTS = (2, 4, 8, 16)  # "held by at least so many of the pool" are proposals too
HOLDS_PERCENT = 80  # of a proposal's shingles that a witness holds


@dataclass(slots=True)
class _Proposal:
    witnesses: list[Kept]
    constants: frozenset[int]
    score: float


def found(moves: Moves, newcomer: Kept, current: Candidate | None) -> Cluster | None:
    """Found a cluster around a newcomer, if the pool holds enough evidence for one."""
    neighbourhood = _Neighbourhood(moves.state, newcomer)
    if len(neighbourhood.overlaps) + 1 < moves.state.policy.founders_min:
        return None
    best: _Proposal | None = None
    for part in neighbourhood.proposals():
        proposal = _examine(neighbourhood, part, current)
        if proposal is None or (best is not None and proposal.score <= best.score):
            continue
        if not is_phrase([*proposal.witnesses, newcomer], proposal.constants):
            best = proposal
    if best is None:
        return None
    return moves.found(
        [*best.witnesses, newcomer],
        best.constants,
        f"{len(best.witnesses) + 1} prompts share {len(best.constants)} constants",
    )


class _Neighbourhood:
    """The pool as a newcomer sees it: who shares what with it, most first.

    A set of the newcomer's shingles is an integer here, its "lanes": byte n is 1 if the n-th shingle is in it. What two
    sets share is then one `&`, and the sum of many tells in byte n how many of them hold the n-th shingle.
    """

    def __init__(self, state: State, newcomer: Kept) -> None:
        self.state = state
        self.newcomer = newcomer
        postings, lone = state.pool.holders(newcomer.sketch.order, POSTINGS_MAX)
        lone = {shingle: number for shingle, number in lone.items() if number != newcomer.number}
        self._shingles = [*postings, *lone]
        self._holders = bytes(map(len, postings.values())) + bytes(len(lone))
        self.overlaps = self._nearest(list(postings.values()), list(lone.values()))
        self._bits = state.evidence.weights(self._shingles) if self.overlaps else []
        self._weights: dict[int, int] = {}

    def proposals(self) -> list[int]:
        """Return the lanes of sets of shingles that may be a template's constants."""
        nearest = [self.overlaps[number] for number in list(self.overlaps)[: 4 * NEIGHBOURS]]
        nearest.sort(key=self.weigh, reverse=True)
        found = nearest[:NEIGHBOURS]
        for least in COMMON_COUNTS:
            found.append(_at_least(self._holders, least + 1))
        return [part for part in dict.fromkeys(found) if part.bit_count() >= self.state.policy.constants_min]

    def agreed(self, numbers: list[int]) -> int:
        """Return the lanes of what at least `HOLDS_PERCENT` of these candidates share with the newcomer."""
        held = sum(self.overlaps[number] for number in numbers).to_bytes(len(self._shingles), "little")
        return _at_least(held, max(1, -(-HOLDS_PERCENT * len(numbers) // 100)))

    def shingles(self, lanes: int) -> frozenset[int]:
        return frozenset(compress(self._shingles, self._bytes(lanes)))

    def weigh(self, lanes: int) -> int:
        """Return what a set of the newcomer's shingles weighs."""
        return sum(compress(self._bits, self._bytes(lanes)))

    def weight(self, kept: Kept) -> int:
        """Return what all shingles of a prompt weigh."""
        known = self._weights.get(kept.number)
        if known is None:
            known = self._weights[kept.number] = self.state.evidence.weigh(kept.shingles)
        return known

    def _nearest(self, postings: list[list[int]], lone: list[int]) -> dict[int, int]:
        """Return the lanes that the candidates share which share the most, by number, nearest first."""
        if not postings:
            return {}
        pairs = np.fromiter(chain.from_iterable(postings), dtype=np.int64) << PLACE_BITS
        pairs |= np.repeat(np.arange(len(postings)), list(map(len, postings)))
        pairs.sort()
        numbers, places = pairs >> PLACE_BITS, pairs & ((1 << PLACE_BITS) - 1)
        change = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
        bounds = np.zeros(change.size + 2, dtype=np.int64)
        bounds[1:-1], bounds[-1] = change, numbers.size
        known, votes = numbers[bounds[:-1]], bounds[1:] - bounds[:-1]
        enough = np.flatnonzero((votes >= self.state.policy.constants_min) & (known != self.newcomer.number))
        nearest = enough[np.lexsort((-known[enough], -votes[enough]))[:CANDIDATES_MAX]]
        rows = np.full(known.size, nearest.size)  # one row too many, for the others
        rows[nearest] = np.arange(nearest.size)
        shared = np.zeros((nearest.size + 1, len(self._shingles)), dtype=np.uint8)
        shared[np.repeat(rows, votes), places] = 1
        row_of = dict(zip(known[nearest].tolist(), shared, strict=False))
        for place, number in enumerate(lone, len(postings)):
            if number in row_of:
                row_of[number][place] = 1
        # More than so many may hold a shingle: whether the nearest are among them was not seen.
        cut = [place for place, count in enumerate(self._holders) if count == POSTINGS_MAX]
        for number, row in row_of.items() if cut else ():
            held = self.state.kept[number].shingles
            for place in cut:
                row[place] = self._shingles[place] in held
        return {number: int.from_bytes(row.tobytes(), "little") for number, row in row_of.items()}

    def _bytes(self, lanes: int) -> bytes:
        return lanes.to_bytes(len(self._shingles), "little")


def _at_least(counts: bytes, least: int) -> int:
    """Return the lanes in which these counts are at least so high."""
    return int.from_bytes(counts.translate(bytes(least) + b"\1" * (256 - least)), "little")


def _examine(around: _Neighbourhood, lanes: int, current: Candidate | None) -> _Proposal | None:
    """Return the proposal with its witnesses and the constants they agree on, if the evidence suffices."""
    state, policy = around.state, around.state.policy
    bits_min = policy.evidence_bits * BIT
    if around.weigh(lanes) < bits_min:
        return None
    needed = HOLDS_PERCENT * lanes.bit_count()
    holders = [number for number, shared in around.overlaps.items() if 100 * (lanes & shared).bit_count() >= needed]
    if len(holders) + 1 < policy.founders_min:
        return None
    lanes = around.agreed(holders)
    weight = around.weigh(lanes)
    if lanes.bit_count() < policy.constants_min or weight < bits_min:
        return None
    part = around.shingles(lanes)
    witnesses = _movable(state, [state.kept[number] for number in holders], part, weight)
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    share, few = _share_needed(policy, support), (around.newcomer, *witnesses[:4])
    if share and all(100 * weight < share * around.weight(kept) for kept in few):
        return None
    if current is not None and not _beats(around, few, part, weight, support, current):
        return None
    return _Proposal(witnesses, part, score(support, weight, anchors(part)))


def _movable(state: State, holders: list[Kept], part: frozenset[int], weight: int) -> list[Kept]:
    """Leave out witnesses whose cluster explains them better.

    It has the proposed constants and more besides, or it knows how they begin or end, and the proposal does not.
    """
    inner = not anchors(part)
    staying: dict[int | None, bool] = {None: False}
    for kept in holders:
        if kept.home is not None and kept.home not in staying:
            home = state.clusters[kept.home]
            both = state.evidence.weigh(part & home.signature)
            contained = 100 * both >= CONTAINED_PERCENT * weight
            richer = contained and state.evidence.weigh(home.signature) > weight
            staying[kept.home] = richer or (inner and home.anchors > 0)
    return [kept for kept in holders if not staying[kept.home]]


def _share_needed(policy: Policy, support: int) -> int:
    """The fewer the witnesses, the larger the share of a prompt that its constants must make up, in percent."""
    if support >= policy.witnesses_enough:
        return 0
    return policy.pair_percent * 55 * policy.founders_min // (100 * support)


def _beats(
    around: _Neighbourhood, few: Sequence[Kept], part: frozenset[int], weight: int, support: int, current: Candidate
) -> bool:
    """Tell whether a proposal explains the newcomer, the first of a few witnesses, better than its cluster does."""
    state, policy = around.state, around.state.policy
    signature = current.cluster.signature
    both = state.evidence.weigh(signature & part)
    if 100 * both < CONTAINED_PERCENT * min(current.whole_weight, weight):
        return score(support, weight, anchors(part)) > score(
            current.cluster.size + 1, current.shared_weight, anchors(current.shared)
        )
    if 10 * weight <= 11 * current.whole_weight or support < policy.child_witnesses:
        return False
    if all(100 * (weight - both) < policy.pair_percent * (around.weight(kept) - both) for kept in few):
        return False
    return lay(around.newcomer.sketch.order, part - signature, signature) is Layout.WORDING
