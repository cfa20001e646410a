"""Members that move because another cluster explains them better.

Clusters compete for prompts with the same rule that placed them (`match.explains_better`), only later and knowing more.
Prompts about one popular document may have founded a cluster before their templates showed. It knows no end of theirs,
so however large it is, each template that does may claim its own.
"""

from __future__ import annotations

from streams.compiler import Ints
from streams.prompts.clustering.cluster import Cluster
from streams.prompts.clustering.compiled.sets import weigh_shared
from streams.prompts.clustering.match import Candidate, explains_better, match
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.state import State

# Prompts looked at in one go: those that hold the most constants, and members of rivals as if they held them all. Of
# equals the oldest come first; the others have their turn later.
CLAIMS_MAX = 256
RIVAL_PERCENT = 60  # of a cluster's constants: sharing so many makes its members worth a look


def claim(moves: Moves, cluster: Cluster) -> None:
    """Move prompts here that this cluster explains better than where they are."""
    state = moves.state
    if cluster.ordinal not in state.clusters:
        return
    constants = cluster.signature.array
    bits: Ints | None = None  # what they weigh, until the next move
    for number in _worth_a_look(state, cluster):
        kept = state.kept.get(number)
        if cluster.ordinal not in state.clusters or kept is None or kept.home == cluster.ordinal:
            continue
        if bits is None:
            bits = state.evidence.weights(constants)
            least = state.policy.cover_percent * int(bits.sum())
        if 100 * weigh_shared(constants, bits, kept.shingles.array)[0] < least:
            continue
        here = Candidate(state, cluster, kept.shingles)
        if not here.covers:
            continue
        if kept.home is not None:
            there = Candidate(state, state.clusters[kept.home], kept.shingles)
            if not explains_better(state, here, there, kept):
                continue
        moves.move(kept, cluster, "this cluster's constants explain it better")
        bits = None


def _worth_a_look(state: State, cluster: Cluster) -> list[int]:
    """Return the numbers of prompts that may hold enough of a cluster's constants, oldest first."""
    size = cluster.signature.size
    votes: dict[int, int] = {}
    for index in filter(len, (state.pool, state.claimable)):
        votes |= index.votes(cluster.signature.array, (size + 1) // 2)
    for ordinal, shared in state.by_constant.votes(cluster.signature.array).items():
        other = state.clusters[ordinal]
        if 100 * shared >= RIVAL_PERCENT * other.signature.size and other is not cluster:
            votes.update(dict.fromkeys(other.kept, size))
    if len(votes) > CLAIMS_MAX:
        most = sorted((-held, number) for number, held in votes.items())[:CLAIMS_MAX]
        return sorted(number for _, number in most)
    return sorted(votes)


def evict(moves: Moves, cluster: Cluster) -> None:
    """Let members go that do not hold the constants (any more), or begin and end as those of another cluster do."""
    state = moves.state
    left = False
    for kept in cluster.sample():
        if cluster.ordinal not in state.clusters or kept.home != cluster.ordinal:
            return
        if cluster.signature.size and kept.holds(cluster.signature):
            continue
        here = Candidate(state, cluster, kept.shingles)
        if here.covers and here.shared.ends == cluster.anchors:
            continue
        better = match(state, kept).chosen
        target = better.cluster if better is not None and not better.cluster.retired else None
        if target is cluster or (here.covers and target is None):
            continue
        left = True
        moves.move(kept, target, "does not hold the constants that its cluster has by now")
    if left and cluster.ordinal in state.clusters:
        moves.learn(cluster)
