"""When waiting prompts turn out to be filled from one template.

A newcomer is compared with the pool: waiting prompts and the members of young clusters. What it shares with its
nearest neighbours, and what many of the pool hold, are proposals for constants. A proposal is worth a cluster when
enough prompts hold it and it makes up enough of them: the fewer the witnesses, the larger the share, so that a long
slot cannot hide a template for ever, yet two prompts about one document do not make one. Inside an existing cluster a
more specific one needs more witnesses, and wording of its own rather than a repeated slot value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streams.compiler import Ints
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.compiled import founding as loops
from streams.prompts.clustering.compiled.sets import weigh_shared
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
    for part, holders in neighbourhood.proposals():
        if best is not None and score(len(holders) + 1, part.weight, part.ends) <= best.score:
            continue
        proposal = _examine(neighbourhood, part, holders, current)
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


class _Part:
    """Some of a newcomer's shingles, with what they weigh."""

    def __init__(self, shingles: Ints, bits: Ints, weight: int) -> None:
        self.shingles = Shingles(shingles)
        self.ends = self.shingles.ends
        self.weight = weight
        self._bits = bits

    def weigh_shared(self, other: Shingles) -> int:
        """Return what those of its shingles weigh that are among others."""
        return weigh_shared(self.shingles.array, self._bits, other.array)[0]


class _Neighbourhood:
    """The pool as a newcomer sees it: who shares what with it, most first.

    A set of the newcomer's shingles that others hold too is an array with a 1 at the place of each.
    """

    def __init__(self, state: State, newcomer: Kept) -> None:
        self.state = state
        self.newcomer = newcomer
        ascending = newcomer.shingles.array
        self.numbers, self._shared, places, self._amounts = state.pool.neighbours(
            ascending, newcomer.number, POSTINGS_MAX, state.policy.constants_min, CANDIDATES_MAX
        )
        self._shingles = ascending[places]
        self._weights: dict[int, int] = {}

    def proposals(self) -> Iterator[tuple[_Part, list[int]]]:
        """Yield what may be a template's constants, with the candidates that hold most of them."""
        policy = self.state.policy
        bits = self.state.evidence.weights(self._shingles)
        parts, witnesses, weights = loops.proposals(
            self._shared, self._amounts, bits,
            4 * NEIGHBOURS, NEIGHBOURS, COMMON_COUNTS,
            HOLDS_PERCENT, policy.founders_min - 1, policy.constants_min, policy.evidence_bits * BIT,
        )  # fmt: skip
        for part, holding, weight in zip(parts.view(bool), witnesses.view(bool), weights.tolist(), strict=True):
            yield _Part(self._shingles[part], bits[part], weight), self.numbers[holding].tolist()

    def weight(self, kept: Kept) -> int:
        """Return what all shingles of a prompt weigh."""
        known = self._weights.get(kept.number)
        if known is None:
            known = self._weights[kept.number] = self.state.evidence.weigh(kept.shingles)
        return known


def _examine(around: _Neighbourhood, part: _Part, holders: list[int], current: Candidate | None) -> _Proposal | None:
    """Return what may be constants as a proposal with its witnesses, if the evidence suffices."""
    policy = around.state.policy
    witnesses = _movable(around.state, holders, part)
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    share, few = _share_needed(policy, support), (around.newcomer, *witnesses[:4])
    if share and all(100 * part.weight < share * around.weight(kept) for kept in few):
        return None
    if current is not None and not _beats(around, few, part, support, current):
        return None
    return _Proposal(witnesses, part.shingles, score(support, part.weight, part.ends))


def _movable(state: State, holders: list[int], part: _Part) -> list[Kept]:
    """Leave out witnesses whose cluster explains them better.

    It has the proposed constants and more besides, or it knows how they begin or end, and the proposal does not.
    """
    staying: dict[int, bool] = {}
    movable = []
    for kept in [state.kept[number] for number in holders]:
        if kept.home is not None and kept.home not in staying:
            staying[kept.home] = _explains_better(state, state.clusters[kept.home], part)
        if kept.home is None or not staying[kept.home]:
            movable.append(kept)
    return movable


def _explains_better(state: State, home: Cluster, part: _Part) -> bool:
    if part.ends == 0 and home.anchors > 0:
        return True
    contained = 100 * part.weigh_shared(home.signature) >= CONTAINED_PERCENT * part.weight
    return contained and state.evidence.weigh(home.signature) > part.weight


def _share_needed(policy: Policy, support: int) -> int:
    """The fewer the witnesses, the larger the share of a prompt that its constants must make up, in percent."""
    if support >= policy.witnesses_enough:
        return 0
    return policy.pair_percent * 55 * policy.founders_min // (100 * support)


def _beats(around: _Neighbourhood, few: Sequence[Kept], part: _Part, support: int, current: Candidate) -> bool:
    """Tell whether a proposal explains the newcomer, the first of a few witnesses, better than its cluster does."""
    policy, signature, weight = around.state.policy, current.cluster.signature, part.weight
    both = part.weigh_shared(signature)
    if 100 * both < CONTAINED_PERCENT * min(current.whole_weight, weight):
        return score(support, weight, part.ends) > score(
            current.cluster.size + 1, current.shared_weight, current.shared.ends
        )
    if 10 * weight <= 11 * current.whole_weight or support < policy.child_witnesses:
        return False
    if all(100 * (weight - both) < policy.pair_percent * (around.weight(kept) - both) for kept in few):
        return False
    return lay(around.newcomer.sketch.order, part.shingles - signature, signature) is Layout.WORDING
