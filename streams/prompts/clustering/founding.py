"""When waiting prompts turn out to be filled from one template.

A newcomer is compared with the pool: waiting prompts and the members of young clusters. What it shares with its nearest
neighbours, and what many of the pool hold, are proposals for constants. A proposal is worth a cluster when enough
prompts hold it and it makes up enough of them: the fewer the witnesses, the larger the share, so that a long slot cannot
hide a template for ever, yet two prompts about one document do not make one. Inside an existing cluster a more specific
one needs more witnesses, and wording of its own rather than a repeated slot value.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.layout import Layout, lay
from streams.prompts.clustering.match import CONTAINED_PERCENT, Candidate, score
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.sketch import anchors
from streams.prompts.clustering.state import State

POSTINGS_MAX = 64  # newest candidates looked at for one shingle
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
    state = moves.state
    postings = {}
    for shingle in newcomer.sketch.order:
        numbers = state.pool.get(shingle)
        if numbers is not None:
            postings[shingle] = numbers[-POSTINGS_MAX:]
    votes = Counter(chain.from_iterable(postings.values()))
    del votes[newcomer.number]
    if len(votes) + 1 < state.policy.founders_min:
        return None
    best: _Proposal | None = None
    for constants in _proposals(state, newcomer, postings, votes):
        proposal = _examine(state, newcomer, constants, votes, current)
        if proposal is not None and (best is None or proposal.score > best.score):
            best = proposal
    if best is None:
        return None
    return moves.found(
        [*best.witnesses, newcomer],
        best.constants,
        f"{len(best.witnesses) + 1} prompts share {len(best.constants)} constants",
    )


def _proposals(
    state: State, newcomer: Kept, postings: dict[int, list[int]], votes: Counter[int]
) -> list[frozenset[int]]:
    nearest = sorted(votes, key=lambda number: (-votes[number], -number))[: 4 * NEIGHBOURS]
    overlaps = [newcomer.shingles & state.kept[number].shingles for number in nearest]
    overlaps.sort(key=lambda shared: -state.evidence.weigh(shared))
    found = overlaps[:NEIGHBOURS]
    for least in COMMON_COUNTS:
        found.append(frozenset(shingle for shingle, numbers in postings.items() if len(numbers) > least))
    return [part for part in dict.fromkeys(found) if len(part) >= state.policy.constants_min]


def _examine(
    state: State, newcomer: Kept, part: frozenset[int], votes: Counter[int], current: Candidate | None
) -> _Proposal | None:
    """Return the proposal with its witnesses and the constants they agree on, if the evidence suffices."""
    policy = state.policy
    bits_min = policy.evidence_bits * BIT
    if state.evidence.weigh(part) < bits_min:
        return None
    needed = HOLDS_PERCENT * len(part)
    witnesses = [
        state.kept[number]
        for number, held in votes.items()
        if 100 * held >= needed and 100 * len(part & state.kept[number].shingles) >= needed
    ]
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    agreed = Counter(chain.from_iterable(newcomer.shingles & kept.shingles for kept in witnesses))
    part = frozenset(shingle for shingle, held in agreed.items() if 100 * held >= HOLDS_PERCENT * len(witnesses))
    weight = state.evidence.weigh(part)
    if len(part) < policy.constants_min or weight < bits_min:
        return None
    witnesses = [kept for kept in witnesses if not _at_home(state, kept, part, weight)]
    support = len(witnesses) + 1
    if support < policy.founders_min:
        return None
    least = min(state.evidence.weigh(kept.shingles) for kept in (newcomer, *witnesses[:4]))
    if current is not None and not _beats(state, newcomer, part, weight, support, least, current):
        return None
    if 100 * weight < _share_needed(policy, support) * least:
        return None
    return _Proposal(witnesses, part, score(support, weight, anchors(part)))


def _at_home(state: State, kept: Kept, part: frozenset[int], weight: int) -> bool:
    """Tell whether a witness stands in a cluster whose constants hold the proposed ones and more besides."""
    if kept.home is None:
        return False
    signature = state.clusters[kept.home].signature
    both = state.evidence.weigh(part & signature)
    return 100 * both >= CONTAINED_PERCENT * weight and state.evidence.weigh(signature) > weight


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
