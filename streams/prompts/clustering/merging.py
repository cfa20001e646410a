"""When two clusters are fragments of one template.

Prompts about one document may found a cluster before the template has shown itself on others; then every document
has its cluster. Fragments are told from sibling templates by what each has beside the constants they share: the value
of a slot fills one gap, or it is set off as a value (after a label, in quotation marks, on lines of its own). And a
variant of a template goes on being used, while a value that repeated for a while does not.
"""

from __future__ import annotations

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.compiled.sets import weigh_shared
from streams.prompts.clustering.index import ANY
from streams.prompts.clustering.layout import Layout, gaps, lay
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.splitting import holds_parts
from streams.prompts.clustering.state import State
from streams.prompts.clustering.values import FILLS_MAX, are_values

NEIGHBOURS_MAX = 12  # clusters compared for a merge
MEMBERS_LOOKED_AT = 3  # newest members whose text is laid over the constants
STALLED_GAPS = 5  # times its usual gap that a cluster was not fed: by chance once in 150 (e^5)


def merge(moves: Moves, cluster: Cluster) -> None:
    """Merge a cluster with one that differs only in the values of slots."""
    state, policy = moves.state, moves.state.policy
    constants = cluster.signature.array
    # It has the most constants in common with itself.
    nearest, _ = state.by_constant.foremost(constants, ANY, NEIGHBOURS_MAX + 1)
    others = [(state.clusters[ordinal], count) for ordinal, count in nearest if ordinal != cluster.ordinal]
    near = [one for one, count in others[:NEIGHBOURS_MAX] if count >= policy.constants_min and not one.retired]
    bits = state.evidence.weights(constants) if near else constants
    for other in near:
        weight, marks = weigh_shared(constants, bits, other.signature.array)
        if weight < policy.evidence_bits * BIT:
            continue
        comparable = _are_comparable(policy, cluster, other, weight, marks)
        small, large = sorted((cluster, other), key=lambda one: (one.size, -one.ordinal))
        stalled = _is_stalled(state, small, weight)
        if not comparable and not stalled:
            continue
        shared = cluster.signature & other.signature
        values = comparable and all(_differs_in_values(state, one, shared, weight) for one in (cluster, other))
        stalled = stalled and _is_offshoot(state, small, large, shared, weight)
        if values and not stalled and holds_parts(moves, [*cluster.sample(), *other.sample()], shared):
            continue
        if values or stalled:
            older, younger = sorted((cluster, other), key=lambda one: one.ordinal)
            moves.absorb(older, younger, shared)
            return


def _are_comparable(policy: Policy, one: Cluster, other: Cluster, weight: int, marks: int) -> bool:
    """Tell whether two clusters share an end of their prompts, or enough by itself if neither knows an end.

    A template that begins and ends with a value has no ends.
    """
    if one.anchors or other.anchors:
        return marks > 0
    return weight >= policy.distinctive_bits * BIT


def _is_stalled(state: State, small: Cluster, weight: int) -> bool:
    """Tell whether a small cluster that shares so much with a larger one is not fed any more.

    A variant of a template goes on being used; a value that repeated for a while does not.
    """
    if small.size >= state.policy.tentative_below or weight < state.policy.distinctive_bits * BIT:
        return False
    newest, oldest = max(small.kept), min(small.kept)
    return (state.now - newest) * len(small.kept) > STALLED_GAPS * (newest - oldest)


def _is_offshoot(state: State, small: Cluster, large: Cluster, shared: Shingles, weight: int) -> bool:
    """Tell whether the smaller cluster has all constants of the larger one, and beside them what may be values."""
    if 100 * weight < state.policy.cover_percent * state.evidence.weigh(large.signature):
        return False
    own = small.signature - shared
    for kept in _newest(small):
        filled = gaps(kept.prompt.text, own, shared, kept.shingles)
        if len(filled) > FILLS_MAX or any(not gap.sets_in and not gap.delimited for gap in filled):
            return False
    return True


def _differs_in_values(state: State, cluster: Cluster, shared: Shingles, weight: int) -> bool:
    """Tell whether what a cluster has beside the shared constants are values of slots."""
    own = cluster.signature - shared
    if not own.size:
        return True
    newest = _newest(cluster)
    own_weight = state.evidence.weigh(own)
    if weight >= own_weight and all(lay(kept.sketch.order, own, shared) is Layout.VALUE for kept in newest):
        return True
    return are_values(state.policy, newest, own, own_weight, shared, weight)


def _newest(cluster: Cluster) -> list[Kept]:
    return [cluster.kept[number] for number in sorted(cluster.kept)[-MEMBERS_LOOKED_AT:]]
