"""When waiting prompts turn out to be filled from one template.

A newcomer is compared with the pool: waiting prompts and the members of young clusters. What it shares with its
nearest neighbours, and what many of the pool hold, are proposals for constants. A proposal is worth a cluster when
enough prompts hold it and it makes up enough of them: the fewer the witnesses, the larger the share, so that a long
slot cannot hide a template for ever, yet two prompts about one document do not make one. Inside an existing cluster a
more specific one needs more witnesses, and wording of its own rather than a repeated slot value.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.layout import Layout, lay
from streams.prompts.clustering.match import CONTAINED_PERCENT, Candidate, score
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.phrases import is_phrase
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.sketch import anchors
from streams.prompts.clustering.state import State

POSTINGS_MAX = 64  # newest candidates looked at for one shingle
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
    """The pool as a newcomer sees it: who shares what with it, most first."""

    def __init__(self, state: State, newcomer: Kept) -> None:
        self.state = state
        self.newcomer = newcomer
        postings = state.pool.shared(newcomer.sketch.order, POSTINGS_MAX)
        self._holders = {shingle: len(newest) for shingle, newest in postings.items()}
        votes = Counter(chain.from_iterable(postings.values()))
        del votes[newcomer.number]
        constants_min = state.policy.constants_min
        nearest = sorted((-held, -number) for number, held in votes.items() if held >= constants_min)
        self.overlaps = {
            -number: newcomer.shingles & state.kept[-number].shingles for _, number in nearest[:CANDIDATES_MAX]
        }
        self._weights: dict[int, int] = {}

    def proposals(self) -> list[frozenset[int]]:
        """Return sets of shingles that may be a template's constants."""
        nearest = [self.overlaps[number] for number in list(self.overlaps)[: 4 * NEIGHBOURS]]
        nearest.sort(key=self.state.evidence.weigh, reverse=True)
        found = nearest[:NEIGHBOURS]
        for least in COMMON_COUNTS:
            found.append(frozenset(shingle for shingle, holders in self._holders.items() if holders > least))
        return [part for part in dict.fromkeys(found) if len(part) >= self.state.policy.constants_min]

    def weight(self, kept: Kept) -> int:
        """Return what all shingles of a prompt weigh."""
        known = self._weights.get(kept.number)
        if known is None:
            known = self._weights[kept.number] = self.state.evidence.weigh(kept.shingles)
        return known


def _examine(around: _Neighbourhood, part: frozenset[int], current: Candidate | None) -> _Proposal | None:
    """Return the proposal with its witnesses and the constants they agree on, if the evidence suffices."""
    state, policy = around.state, around.state.policy
    bits_min = policy.evidence_bits * BIT
    if state.evidence.weigh(part) < bits_min:
        return None
    needed = HOLDS_PERCENT * len(part)
    holders = [number for number, shared in around.overlaps.items() if 100 * len(part & shared) >= needed]
    if len(holders) + 1 < policy.founders_min:
        return None
    agreed = Counter(chain.from_iterable(around.overlaps[number] for number in holders))
    part = frozenset(shingle for shingle, held in agreed.items() if 100 * held >= HOLDS_PERCENT * len(holders))
    weight = state.evidence.weigh(part)
    if len(part) < policy.constants_min or weight < bits_min:
        return None
    witnesses = _movable(state, [state.kept[number] for number in holders], part, weight)
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    least = min(around.weight(kept) for kept in (around.newcomer, *witnesses[:4]))
    if 100 * weight < _share_needed(policy, support) * least:
        return None
    if current is not None and not _beats(state, around.newcomer, part, weight, support, least, current):
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
    state: State, newcomer: Kept, part: frozenset[int], weight: int, support: int, least: int, current: Candidate
) -> bool:
    """Tell whether a proposal explains the newcomer better than the cluster that would take it."""
    policy = state.policy
    signature = current.cluster.signature
    both = state.evidence.weigh(signature & part)
    if 100 * both < CONTAINED_PERCENT * min(current.whole_weight, weight):
        return score(support, weight, anchors(part)) > score(
            current.cluster.size + 1, current.shared_weight, anchors(current.shared)
        )
    if 10 * weight <= 11 * current.whole_weight or support < policy.child_witnesses:
        return False
    if 100 * (weight - both) < policy.pair_percent * (least - both):
        return False
    return lay(newcomer.sketch.order, part - signature, signature) is Layout.WORDING
