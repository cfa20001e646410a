"""When two clusters are fragments of one template.

Prompts about one document may found a cluster before the template has shown itself on others; then every document
has its cluster. Fragments are told from sibling templates by what each has beside the constants they share: the value
of a slot fills one gap, or it is set off as a value (after a label, in quotation marks, on lines of its own). And a
variant of a template goes on being used, while a value that repeated for a while does not.
"""

from __future__ import annotations

from streams.prompts.clustering.cluster import Cluster
from streams.prompts.clustering.layout import Layout, gaps, lay
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import BIT
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.splitting import holds_parts
from streams.prompts.clustering.values import FILLS_MAX, are_values

NEIGHBOURS_MAX = 12  # clusters compared for a merge
MEMBERS_LOOKED_AT = 3  # newest members whose text is laid over the constants
STALLED_GAPS = 5  # times its usual gap that a cluster was not fed: by chance once in 150 (e^5)


def merge(moves: Moves, cluster: Cluster) -> None:
    """Merge a cluster with one that differs only in the values of slots."""
    state, policy = moves.state, moves.state.policy
    votes = state.overlaps(cluster.signature)
    votes.pop(cluster.ordinal, None)
    nearest = sorted(votes, key=lambda ordinal: (-votes[ordinal], ordinal))[:NEIGHBOURS_MAX]
    for ordinal in nearest:
        other = state.clusters[ordinal]
        shared = cluster.signature & other.signature
        weight = state.evidence.weigh(shared)
        if other.retired or shared.size < policy.constants_min or weight < policy.evidence_bits * BIT:
            continue
        values = _comparable(moves, cluster, other, shared, weight) and all(
            _differs_in_values(moves, one, shared, weight) for one in (cluster, other)
        )
        stalled = _is_stalled_offshoot(moves, cluster, other, weight)
        if values and not stalled and holds_parts(moves, [*cluster.sample(), *other.sample()], shared):
            continue
        if values or stalled:
            older, younger = sorted((cluster, other), key=lambda one: one.ordinal)
            moves.absorb(older, younger, shared)
            return


def _comparable(moves: Moves, one: Cluster, other: Cluster, shared: Shingles, weight: int) -> bool:
    """Tell whether two clusters share an end of their prompts, or enough by itself if neither knows an end.

    A template that begins and ends with a value has no ends.
    """
    if one.anchors or other.anchors:
        return shared.ends > 0
    return weight >= moves.state.policy.distinctive_bits * BIT


def _is_stalled_offshoot(moves: Moves, one: Cluster, other: Cluster, weight: int) -> bool:
    """Tell whether the smaller cluster has all constants of the larger one and is not fed any more.

    A variant of a template goes on being used; a value that repeated for a while does not.
    """
    state, policy = moves.state, moves.state.policy
    small, large = sorted((one, other), key=lambda cluster: (cluster.size, -cluster.ordinal))
    if small.size >= policy.tentative_below or weight < policy.distinctive_bits * BIT:
        return False
    if 100 * weight < policy.cover_percent * state.evidence.weigh(large.signature):
        return False
    own, shared = small.signature - large.signature, small.signature & large.signature
    for kept in small.sample()[-MEMBERS_LOOKED_AT:]:
        filled = gaps(kept.prompt.text, own, shared, kept.shingles)
        if len(filled) > FILLS_MAX or any(not gap.before and not gap.delimited for gap in filled):
            return False
    numbers = sorted(small.kept)
    return (state.now - numbers[-1]) * len(numbers) > STALLED_GAPS * (numbers[-1] - numbers[0])


def _differs_in_values(moves: Moves, cluster: Cluster, shared: Shingles, weight: int) -> bool:
    """Tell whether what a cluster has beside the shared constants are values of slots."""
    state = moves.state
    own = cluster.signature - shared
    if not own.size:
        return True
    newest = cluster.sample()[-MEMBERS_LOOKED_AT:]
    light = 2 * weight >= state.evidence.weigh(cluster.signature)
    if light and all(lay(kept.sketch.order, own, shared) is Layout.VALUE for kept in newest):
        return True
    return are_values(moves, newest, own, shared)
