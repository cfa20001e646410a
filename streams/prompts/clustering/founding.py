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
from functools import cached_property

import numpy as np

from streams.compiler import Bytes, Ints
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.compiled import founding as loops
from streams.prompts.clustering.layout import Layout, lay
from streams.prompts.clustering.match import CONTAINED_PERCENT, Candidate, score
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.phrases import is_phrase
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.state import State

POSTINGS_MAX = 64  # newest candidates looked at for one shingle
CANDIDATES_MAX = 64  # prompts of the pool that a newcomer is compared with, those that share the most
NEIGHBOURS = 3  # candidates whose overlap with the newcomer is a proposal
COMMON_COUNTS = np.array([2, 4, 8, 16])  # what more than so many of the pool hold are proposals too
HOLDS_PERCENT = 80  # of a proposal's shingles that a witness holds


@dataclass(slots=True)
class _Proposal:
    witnesses: list[Kept]
    constants: Shingles
    score: float


def found(moves: Moves, newcomer: Kept, current: Candidate | None) -> Cluster | None:
    """Found a cluster around a newcomer, if the pool holds enough evidence for one."""
    neighbourhood = _Neighbourhood(moves.state, newcomer)
    if len(neighbourhood.numbers) + 1 < moves.state.policy.founders_min:
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

    A part is a set of the newcomer's shingles that others hold too: an array with a 1 at the place of each.
    """

    def __init__(self, state: State, newcomer: Kept) -> None:
        self.state = state
        self.newcomer = newcomer
        self.numbers, self._shared, places, self._amounts = state.pool.neighbours(
            newcomer.sketch.order, newcomer.number, POSTINGS_MAX, state.policy.constants_min, CANDIDATES_MAX
        )
        self._shingles = newcomer.sketch.order[places]
        self._weights: dict[int, int] = {}

    @cached_property
    def _bits(self) -> Ints:
        return self.state.evidence.weights(self._shingles)

    def proposals(self) -> Bytes:
        """Return parts that may be a template's constants, a row each."""
        parts: Bytes = loops.proposals(
            self._shared,
            self._amounts,
            self._bits,
            4 * NEIGHBOURS,
            NEIGHBOURS,
            COMMON_COUNTS,
            self.state.policy.constants_min,
        )
        return parts

    def witnesses(self, part: Bytes) -> tuple[list[int], Bytes]:
        """Return the candidates that hold most of a part, and what most of those share with the newcomer."""
        holding, agreed = loops.witnesses(self._shared, part, HOLDS_PERCENT)
        return self.numbers[holding.view(bool)].tolist(), agreed

    def shingles(self, part: Bytes) -> Shingles:
        chosen = self._shingles[part.view(bool)]
        chosen.sort()
        return Shingles(chosen)

    def weigh(self, part: Bytes) -> int:
        return int(self._bits[part.view(bool)].sum())

    def weight(self, kept: Kept) -> int:
        """Return what all shingles of a prompt weigh."""
        known = self._weights.get(kept.number)
        if known is None:
            known = self._weights[kept.number] = self.state.evidence.weigh(kept.shingles)
        return known


def _examine(around: _Neighbourhood, proposed: Bytes, current: Candidate | None) -> _Proposal | None:
    """Return the proposal with its witnesses and the constants they agree on, if the evidence suffices."""
    state, policy = around.state, around.state.policy
    bits_min = policy.evidence_bits * BIT
    if around.weigh(proposed) < bits_min:
        return None
    holders, agreed = around.witnesses(proposed)
    if len(holders) + 1 < policy.founders_min:
        return None
    part, weight = around.shingles(agreed), around.weigh(agreed)
    if part.size < policy.constants_min or weight < bits_min:
        return None
    witnesses = _movable(state, [state.kept[number] for number in holders], part, weight)
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    share, few = _share_needed(policy, support), (around.newcomer, *witnesses[:4])
    if share and all(100 * weight < share * around.weight(kept) for kept in few):
        return None
    if current is not None and not _beats(around, few, part, weight, support, current):
        return None
    return _Proposal(witnesses, part, score(support, weight, part.ends))


def _movable(state: State, holders: list[Kept], part: Shingles, weight: int) -> list[Kept]:
    """Leave out witnesses whose cluster explains them better.

    It has the proposed constants and more besides, or it knows how they begin or end, and the proposal does not.
    """
    inner = part.ends == 0
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
    around: _Neighbourhood, few: Sequence[Kept], part: Shingles, weight: int, support: int, current: Candidate
) -> bool:
    """Tell whether a proposal explains the newcomer, the first of a few witnesses, better than its cluster does."""
    state, policy = around.state, around.state.policy
    signature = current.cluster.signature
    both = state.evidence.weigh(signature & part)
    if 100 * both < CONTAINED_PERCENT * min(current.whole_weight, weight):
        return score(support, weight, part.ends) > score(
            current.cluster.size + 1, current.shared_weight, current.shared.ends
        )
    if 10 * weight <= 11 * current.whole_weight or support < policy.child_witnesses:
        return False
    if all(100 * (weight - both) < policy.pair_percent * (around.weight(kept) - both) for kept in few):
        return False
    return lay(around.newcomer.sketch.order, part - signature, signature) is Layout.WORDING
