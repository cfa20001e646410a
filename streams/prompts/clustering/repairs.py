"""Repairs: what founding got wrong is put right, one cluster at a time.

A slice of repair takes one cluster that has grown since its last one and, in this order: lets members go that no longer
hold its constants; splits off parts that are templates of their own; merges it with a cluster that differs only in slot
values; and claims prompts that it explains better than where they are. A slice touches the sample of one cluster and
its neighbours, so its time is bounded; which cluster is next is a function of the state.
"""

from __future__ import annotations

from streams.prompts.clustering.claiming import claim, evict
from streams.prompts.clustering.cluster import Cluster
from streams.prompts.clustering.merging import merge
from streams.prompts.clustering.moves import LEARN_ALWAYS_MAX, LEARNING_MEMBERS_MAX, Moves
from streams.prompts.clustering.phrases import is_phrase
from streams.prompts.clustering.splitting import split

CHECK_GROWTH_MIN = 2  # members between two repairs of a cluster: a third of its size, within these bounds
CHECK_GROWTH_MAX = 256


def repair(moves: Moves, cluster: Cluster) -> None:
    """Do one slice of repair work."""
    state = moves.state
    ordinal = cluster.ordinal
    if cluster.size == len(cluster.kept) and is_phrase(cluster.sample(), cluster.signature):
        moves.dissolve(cluster, cluster.sample()[-1].prompt, "what its prompts share is a turn of phrase")
        return
    if cluster.size <= LEARN_ALWAYS_MAX:
        moves.learn(cluster)
    evict(moves, cluster)
    if ordinal in state.clusters:
        split(moves, cluster)
    if ordinal in state.clusters:
        cluster = merge(moves, cluster)
        claim(moves, cluster)
    if cluster.ordinal in state.clusters:
        learnt = cluster.size > LEARNING_MEMBERS_MAX
        growth = max(CHECK_GROWTH_MIN, min(CHECK_GROWTH_MAX, cluster.size if learnt else cluster.size // 3))
        cluster.check_at = cluster.size + growth
        state.resize(cluster, 0)
        if learnt:
            cluster.let_sketches_go()
