"""Repairs: what founding got wrong is put right, one step at a time.

A cluster that has grown since its last repair is due. Its repair takes four slices, each after a prompt of its own:
    tidy    forget it if its members share but a turn of phrase; let members go that no longer hold its constants
    split   let parts go that are templates of their own
    merge   with a cluster that differs only in slot values
    claim   take prompts that it explains better than where they are
A slice touches the sample of one cluster and its neighbours, so its time is bounded. Which cluster and which slice is
next is a function of the state, never of time.
"""

from __future__ import annotations

from streams.prompts.clustering.claiming import claim, evict
from streams.prompts.clustering.cluster import Cluster
from streams.prompts.clustering.merging import merge
from streams.prompts.clustering.moves import LEARN_ALWAYS_MAX, Moves
from streams.prompts.clustering.phrases import is_phrase
from streams.prompts.clustering.splitting import split

CHECK_GROWTH_MIN = 2  # members between two repairs of a cluster: a third of its size, within these bounds
CHECK_GROWTH_MAX = 256


def repair(moves: Moves) -> None:
    """Do one slice of repair work, if any is due."""
    state = moves.state
    cluster = state.clusters.get(state.repair_cursor) if state.repair_slice else None
    if cluster is None or cluster.retired:
        state.repair_slice = 0
        cluster = state.next_due()
    if cluster is None:
        return
    SLICES[state.repair_slice](moves, cluster)
    state.repair_slice = (state.repair_slice + 1) % len(SLICES)


def _tidy(moves: Moves, cluster: Cluster) -> None:
    if cluster.size == len(cluster.kept) and is_phrase(cluster.sample(), cluster.signature):
        moves.dissolve(cluster, cluster.sample()[-1].prompt, "what its prompts share is a turn of phrase")
        return
    if cluster.size <= LEARN_ALWAYS_MAX:
        moves.learn(cluster)
    evict(moves, cluster)


def _claim(moves: Moves, cluster: Cluster) -> None:
    """Claim, and say when the next repair is due."""
    claim(moves, cluster)
    if cluster.ordinal not in moves.state.clusters:
        return
    growth = max(CHECK_GROWTH_MIN, min(CHECK_GROWTH_MAX, cluster.size // 3))
    cluster.check_at = cluster.size + growth
    moves.state.resize(cluster, 0)


SLICES = (_tidy, split, merge, _claim)
