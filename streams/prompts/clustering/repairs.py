"""Repairs: what founding got wrong is put right, one cluster at a time.

A slice of repair takes one cluster that has grown since its last one and, in this order: lets members go that no longer
hold its constants; splits off parts that are templates of their own; merges it with a cluster that differs only in slot
values; and claims prompts that it explains better than where they are. A slice touches the sample of one cluster and its
neighbours, so its time is bounded; which cluster is next is a function of the state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain

from schemas.prompts import ClusterChangeKind
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.layout import Fill, Layout, fills, lay
from streams.prompts.clustering.match import Candidate, explains_better, match
from streams.prompts.clustering.moves import LEARNING_MEMBERS_MAX, Moves
from streams.prompts.clustering.policy import BIT
from streams.prompts.clustering.sketch import anchors

CHECK_GROWTH_MIN = 4  # members between two repairs of a cluster: a third of its size, within these bounds
CHECK_GROWTH_MAX = 256
SPLIT_MEMBERS_MIN = 6
SAME_GROUP_PERCENT = 80  # of the members of two shingles that must be the same for one group
GROUPS_MAX = 64  # sets of members looked at as candidates for a part
DISTINCTIVE_BITS = 40  # constants that say by themselves which template a prompt was filled from
FILLS_MAX = 3  # gaps whose values may go together: a document with its title and its date
WORD_FILL_MAX = 5  # shingles that a word or two change
NEIGHBOURS_MAX = 12  # clusters compared for a merge


@dataclass(slots=True)
class _Part:
    members: int  # bit mask over the sample
    weight: int
    heavy: bool
    layout: Layout


def repair(moves: Moves, cluster: Cluster) -> None:
    """Do one slice of repair work."""
    state = moves.state
    ordinal = cluster.ordinal
    evict(moves, cluster)
    if ordinal in state.clusters:
        split(moves, cluster)
    if ordinal in state.clusters:
        cluster = merge(moves, cluster)
        claim(moves, cluster)
    if cluster.ordinal in state.clusters:
        growth = max(CHECK_GROWTH_MIN, min(CHECK_GROWTH_MAX, cluster.size // 3))
        cluster.check_at = cluster.size + growth
        state.resize(cluster, 0)
        if cluster.size > LEARNING_MEMBERS_MAX:
            cluster.let_sketches_go()


def evict(moves: Moves, cluster: Cluster) -> None:
    """Let members go that do not hold the constants (any more)."""
    state = moves.state
    for kept in cluster.sample():
        if cluster.ordinal not in state.clusters or kept.home != cluster.ordinal:
            return
        if Candidate(state, cluster, kept.shingles).covers:
            continue
        better = match(state, kept.sketch, kept.vector).chosen
        target = better.cluster if better is not None and not better.cluster.retired else None
        moves.move(kept, target, "does not hold the constants that its cluster has by now")


def split(moves: Moves, cluster: Cluster) -> None:
    """Let parts of a cluster go that are templates of their own; the largest part keeps the cluster's id."""
    state, policy = moves.state, moves.state.policy
    sample = cluster.sample()
    if len(sample) < SPLIT_MEMBERS_MIN:
        return
    parts = _parts(moves, cluster, sample)
    together = 0
    for part in parts:
        together |= part.members
    covered = together.bit_count()
    partition = 100 * covered >= policy.closed_percent * len(sample)
    wordings = 100 * covered >= 95 * len(sample) and len(sample) >= 5 * len(parts) and len(parts) <= policy.wordings_max
    chosen = []
    for part in parts:
        if part.layout is Layout.EDGE and not wordings:
            continue
        alone = part.layout is Layout.WORDING and part.heavy and part.members.bit_count() >= policy.child_witnesses
        if partition or alone:
            chosen.append(part.members)
    if not chosen:
        return
    rest = ((1 << len(sample)) - 1) & ~_union(chosen)
    largest = max(chosen, key=lambda members: (members.bit_count(), members))
    if largest.bit_count() > rest.bit_count():
        chosen.remove(largest)
        if rest.bit_count() >= policy.group_members_min:
            chosen.append(rest)
    others = []
    for members in chosen:
        leaving = [kept for place, kept in enumerate(sample) if members >> place & 1]
        if cluster.ordinal in state.clusters and all(kept.home == cluster.ordinal for kept in leaving):
            child = moves.found(leaving, None, "these members share wording that the others do not have")
            others.append(child.cluster_id)
            claim(moves, child)
    if others:
        newest = sample[-1].prompt
        moves.tell(ClusterChangeKind.SPLIT, cluster, newest, "held more than one template", tuple(others))
    if cluster.ordinal in state.clusters:
        moves.learn(cluster)


def _parts(moves: Moves, cluster: Cluster, sample: list[Kept]) -> list[_Part]:
    """Return disjoint parts of the sample that share constants beyond the cluster's, heaviest first."""
    state, policy = moves.state, moves.state.policy
    signature = cluster.signature
    base = max(1, state.evidence.weigh(signature))
    found = []
    for members, group in _groups(sample, signature, policy.group_members_min):
        if len(group) < policy.group_constants_min:
            continue
        holders = [kept for place, kept in enumerate(sample) if members >> place & 1]
        weight = state.evidence.weigh(group)
        few = holders[:8]
        besides = sum(state.evidence.weigh(kept.shingles - signature) for kept in few) // len(few)
        heavy = 100 * weight >= policy.pair_percent * besides
        if 100 * weight < policy.group_weight_percent * base and not heavy:
            continue
        layout = min(lay(kept.sketch.order, group, signature) for kept in holders[:3])
        if layout is Layout.VALUE:
            continue
        found.append((weight * len(holders), members, heavy, layout))
    found.sort(key=lambda part: (-part[0], part[1]))
    taken = 0
    parts = []
    for weight, members, heavy, layout in found:
        left = members & ~taken
        if left.bit_count() >= policy.group_members_min:
            taken |= left
            parts.append(_Part(left, weight, heavy, layout))
    return parts


def _groups(sample: list[Kept], signature: frozenset[int], members_min: int) -> list[tuple[int, frozenset[int]]]:
    """Return sets of members (as bit masks), each with the shingles that just these members hold."""
    masks: dict[int, int] = defaultdict(int)
    for place, kept in enumerate(sample):
        bit = 1 << place
        for shingle in kept.shingles - signature:
            masks[shingle] |= bit
    same: dict[int, list[int]] = defaultdict(list)
    most = len(sample) * 9 // 10  # what almost all hold is a constant already
    for shingle, members in masks.items():
        if members_min <= members.bit_count() <= most:
            same[members].append(shingle)
    keys = sorted(same, key=lambda members: (-len(same[members]) * members.bit_count(), members))[:GROUPS_MAX]
    groups = []
    while keys:
        first = keys[0]
        alike = [
            key for key in keys if 100 * (first & key).bit_count() >= SAME_GROUP_PERCENT * (first | key).bit_count()
        ]
        groups.append((first, frozenset(chain.from_iterable(same[key] for key in alike))))
        taken = set(alike)
        keys = [key for key in keys if key not in taken]
    return groups


def merge(moves: Moves, cluster: Cluster) -> Cluster:
    """Merge a cluster with one that differs only in the values of inner slots; return what it is afterwards."""
    state, policy = moves.state, moves.state.policy
    votes = state.overlaps(cluster.signature)
    del votes[cluster.ordinal]
    nearest = sorted(votes, key=lambda ordinal: (-votes[ordinal], ordinal))[:NEIGHBOURS_MAX]
    for ordinal in nearest:
        other = state.clusters[ordinal]
        shared = cluster.signature & other.signature
        weight = state.evidence.weigh(shared)
        if other.retired or len(shared) < policy.constants_min or weight < policy.evidence_bits * BIT:
            continue
        if not anchors(shared) or not all(_differs_in_values(moves, one, shared, weight) for one in (cluster, other)):
            continue
        older, younger = sorted((cluster, other), key=lambda one: one.ordinal)
        moves.absorb(older, younger, shared)
        return older
    return cluster


def _differs_in_values(moves: Moves, cluster: Cluster, shared: frozenset[int], weight: int) -> bool:
    """Tell whether what a cluster has beside the shared constants is the value of a slot."""
    state = moves.state
    own = cluster.signature - shared
    newest = cluster.sample()[-3:]
    if 2 * weight >= state.evidence.weigh(cluster.signature) and all(
        lay(kept.sketch.order, own, shared) is Layout.VALUE for kept in newest
    ):
        return True
    if weight < DISTINCTIVE_BITS * BIT:
        return False
    return all(_all_values(fills(kept.prompt.text, own, shared, kept.shingles)) for kept in newest)


def _all_values(gaps: list[Fill]) -> bool:
    """A value may be heavier than the template, if delimiters say that it is one; one word may stand without them."""
    large = [gap for gap in gaps if gap.length > WORD_FILL_MAX]
    inner = all(gap.before is not None and gap.after is not None for gap in gaps if gap.length <= WORD_FILL_MAX)
    return len(large) <= FILLS_MAX and inner and all(gap.delimited for gap in large)


def claim(moves: Moves, cluster: Cluster) -> None:
    """Move prompts here that this cluster explains better than where they are."""
    state = moves.state
    if cluster.ordinal not in state.clusters:
        return
    size = len(cluster.signature)
    votes = Counter(chain.from_iterable(state.pool.get(shingle, ()) for shingle in cluster.signature))
    for ordinal, shared in state.overlaps(cluster.signature).items():
        other = state.clusters[ordinal]
        if other is not cluster and 10 * shared >= 6 * len(other.signature):
            votes.update(dict.fromkeys(other.kept, size))
    for number, held in sorted(votes.items()):
        kept = state.kept.get(number)
        if cluster.ordinal not in state.clusters or kept is None:
            continue
        if 2 * held < size or kept.home == cluster.ordinal:
            continue
        here = Candidate(state, cluster, kept.shingles)
        if not here.covers:
            continue
        if kept.home is not None:
            there = Candidate(state, state.clusters[kept.home], kept.shingles)
            if not explains_better(state, here, there, kept.vector):
                continue
        moves.move(kept, cluster, "this cluster's constants explain it better")


def _union(masks: list[int]) -> int:
    union = 0
    for members in masks:
        union |= members
    return union
