"""When a cluster turns out to hold two templates.

Members that share more than the cluster's constants are a part. A part is split off when its own constants stand beside
text that still varies, or when parts make up the whole cluster: then what they have in common is only a frame. A value
that repeats in one slot is no part, however often it comes. Prompts that open with different words and go on in one
sentence are wordings: few of them, covering all members, are templates of their own. So are prompts that go on after
the last value with a sentence that others lack.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from schemas.prompts import ClusterChangeKind
from streams.compiler import SPREAD
from streams.prompts.clustering.claiming import claim
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.compiled.layout import SEAM
from streams.prompts.clustering.compiled.splitting import grouped
from streams.prompts.clustering.compiled.texts import STARTS
from streams.prompts.clustering.layout import Layout, gaps, lay
from streams.prompts.clustering.moves import Moves, constants
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.values import are_values

SPLIT_MEMBERS_MIN = 6
SAME_GROUP_PERCENT = 80  # of the members of two shingles that must be the same for one group
GROUPS_MAX = 64  # sets of members looked at as candidates for a part
LAID_OUT, WEIGHED = 3, 8  # members of a group whose text is read, and whose shingles are weighed
COMPLETE_PERCENT = 95  # of the members that wordings of one place must cover
WORDING_CONSTANTS_MIN = 4  # shingles that two other words make
WORDINGS_MOST = 4  # templates of equal use that a cluster is taken apart into by what comes together
MEMBERS_PER_WORDING = 5  # on average: fewer, and the place is a slot
# Of a last sentence. Four words and a mark make one less, and values end so too: "Thanks for your help."
CLOSING_SHINGLES_MIN = 6


_Group = tuple[int, Shingles]  # members (a bit mask over the sample), and the shingles that just these hold


@dataclass(slots=True)
class _Part:
    members: int  # bit mask over the sample
    sure: bool  # weighs about as much as the values beside it, or is a last sentence after them
    layout: Layout


def split(moves: Moves, cluster: Cluster) -> None:
    """Let parts of a cluster go that are templates of their own; the largest part keeps the cluster's id."""
    sample = cluster.sample()
    if len(sample) < SPLIT_MEMBERS_MIN:
        return
    chosen = _openings(moves, cluster, sample) or _chosen(moves, cluster.signature, sample)
    if not chosen:
        return
    rest = ((1 << len(sample)) - 1) & ~_union(chosen)
    largest = max(chosen, key=lambda members: (members.bit_count(), members))
    if largest.bit_count() > rest.bit_count():
        chosen.remove(largest)
        if rest.bit_count() >= moves.state.policy.group_members_min:
            chosen.append(rest)
    others = []
    for members in chosen:
        leaving = _members(sample, members)
        if cluster.ordinal in moves.state.clusters and all(kept.home == cluster.ordinal for kept in leaving):
            child = moves.found(leaving, None, "these members share wording that the others do not have")
            others.append(child.cluster_id)
            claim(moves, child)
    if others:
        moves.tell(ClusterChangeKind.SPLIT, cluster, sample[-1].prompt, "held more than one template", tuple(others))
    if cluster.ordinal in moves.state.clusters:
        moves.learn(cluster, anew=True)


def holds_parts(moves: Moves, sample: list[Kept], signature: Shingles) -> bool:
    """Tell whether prompts with these constants in common would be split."""
    return len(sample) >= SPLIT_MEMBERS_MIN and bool(_chosen(moves, signature, sample))


def _chosen(moves: Moves, signature: Shingles, sample: list[Kept]) -> list[int]:
    policy = moves.state.policy
    groups = _groups(sample, signature, policy.group_members_min)
    parts = _parts(moves, signature, sample, groups)
    covered = _union([part.members for part in parts]).bit_count()
    partition = 100 * covered >= policy.closed_percent * len(sample)
    wordings = (
        100 * covered >= COMPLETE_PERCENT * len(sample)
        and len(sample) >= MEMBERS_PER_WORDING * len(parts)
        and len(parts) <= policy.wordings_max
    )
    chosen = []
    for part in parts:
        if part.layout is Layout.EDGE and not wordings:
            continue
        alone = part.layout is Layout.WORDING and part.sure and part.members.bit_count() >= policy.child_witnesses
        if partition or alone:
            chosen.append(part.members)
    return chosen or _wordings(moves, signature, sample, groups)


def _wordings(moves: Moves, signature: Shingles, sample: list[Kept], groups: list[_Group]) -> list[int]:
    """Return the parts whose members word some places of a sentence otherwise than all the others do.

    Values of two slots come together as chance will have it. Words that come together at several places, or that all
    the others answer with words of their own, are another template's, however few they are.
    """
    witnesses = moves.state.policy.child_witnesses
    everyone = (1 << len(sample)) - 1
    taken = 0
    parts = []
    for members, group in groups:
        left = members & ~taken
        rest = everyone & ~members
        if group.size < WORDING_CONSTANTS_MIN or min(left.bit_count(), rest.bit_count()) < witnesses:
            continue
        holder = _members(sample, members)[0]
        places = [gap for gap in gaps(holder.prompt.text, group, signature, holder.shingles) if gap.edges >= SEAM]
        if sum(gap.edges for gap in places if not gap.delimited and not gap.quantity) < WORDING_CONSTANTS_MIN:
            continue
        several = len({gap.content for gap in places}) > 1 and WORDINGS_MOST * members.bit_count() >= len(sample)
        if several or any(_alike(rest, other) for other, _ in groups):
            taken |= left
            parts.append(left)
    return parts


def _openings(moves: Moves, cluster: Cluster, sample: list[Kept]) -> list[int]:
    """Return the parts of a cluster whose members open with one of a few wordings of the same sentence."""
    policy = moves.state.policy
    parts = _by_opening(cluster.signature, sample, policy.group_members_min)
    if len(parts) < 2:
        return []
    going_on = 0
    for members in parts:
        holders = _members(sample, members)
        own = constants(holders, policy.keep_percent) - cluster.signature
        first = gaps(holders[0].prompt.text, own, cluster.signature, holders[0].shingles)[:1]
        if first and not first[0].sets_in and (first[0].after or "").isalnum():
            going_on += members.bit_count()
    return parts if 2 * going_on >= len(sample) else []


def _by_opening(signature: Shingles, sample: list[Kept], members_min: int) -> list[int]:
    """Return the members that open alike, unless there are too many openings, or some is a constant.

    It is no use to look at all members: almost all of them must open in one of so few ways.
    """
    parts_max = len(sample) // MEMBERS_PER_WORDING
    strays_left = len(sample) * (100 - COMPLETE_PERCENT) // 100
    by_opening: dict[int, int] = {}
    for place, kept in enumerate(sample):
        opening = kept.opening
        known = by_opening.get(opening)
        if known is not None:
            by_opening[opening] = known | 1 << place
        elif opening & STARTS and opening not in signature:
            by_opening[opening] = 1 << place
        else:
            strays_left -= 1
        if strays_left < 0 or len(by_opening) > parts_max + strays_left:
            return []
    parts = [by_opening[opening] for opening in sorted(by_opening)]
    large = [members for members in parts if members.bit_count() >= members_min]
    complete = 100 * _union(large).bit_count() >= COMPLETE_PERCENT * len(sample)
    return large if complete and len(large) <= parts_max else []


def _parts(moves: Moves, signature: Shingles, sample: list[Kept], groups: list[_Group]) -> list[_Part]:
    """Return disjoint parts of the sample that share constants beyond the cluster's, heaviest first."""
    evidence, policy = moves.state.evidence, moves.state.policy
    groups = [(members, group) for members, group in groups if group.size >= policy.group_constants_min]
    base = max(1, evidence.weigh(signature)) if groups else 1
    found = []
    for members, group in groups:
        holders = _members(sample, members)
        few = holders[:LAID_OUT]
        weight = evidence.weigh(group)
        light = 100 * weight < policy.group_weight_percent * base
        if light and not _is_heavy(moves, weight, holders, signature):
            continue
        layout = min(lay(kept.sketch.order, group, signature) for kept in few)
        if layout is Layout.VALUE or are_values(policy, few, group, weight, signature, base):
            continue
        sure = light or _is_heavy(moves, weight, holders, signature)
        closing = not sure and layout is Layout.WORDING and weight < base
        if closing:
            sure = all(_closes(kept, group, signature) for kept in few)
        found.append((weight * len(holders), members, sure, layout))
    found.sort(key=lambda part: (-part[0], part[1]))
    taken = 0
    parts = []
    for _, members, sure, layout in found:
        left = members & ~taken
        if left.bit_count() >= policy.group_members_min:
            taken |= left
            parts.append(_Part(left, sure, layout))
    return parts


def _is_heavy(moves: Moves, weight: int, holders: list[Kept], signature: Shingles) -> bool:
    """Tell whether a group weighs about as much as all that its holders have beside the constants."""
    few = holders[:WEIGHED]
    besides = sum(moves.state.evidence.weigh_besides(kept.shingles, signature) for kept in few) // len(few)
    return 100 * weight >= moves.state.policy.pair_percent * besides


def _closes(kept: Kept, group: Shingles, signature: Shingles) -> bool:
    """Tell whether a group ends a prompt, after a value, by more than a turn of phrase."""
    filled = gaps(kept.prompt.text, group, signature, kept.shingles)
    return any(gap.closes and gap.own >= CLOSING_SHINGLES_MIN for gap in filled)


def _groups(sample: list[Kept], signature: Shingles, members_min: int) -> list[_Group]:
    """Return sets of members (as bit masks), each with the shingles that just these members hold."""
    most = len(sample) * 9 // 10  # what almost all hold is a constant already
    arrays = [kept.shingles.array for kept in sample]
    starts = np.array([0, *accumulate(map(len, arrays))])
    firsts, shingles, bounds = grouped(
        np.concatenate(arrays), starts, signature.array, members_min, most, GROUPS_MAX, SAME_GROUP_PERCENT, SPREAD
    )
    masks = [int.from_bytes(first, "little") for first in firsts.astype("<u8")]
    return [
        (members, Shingles(shingles[start:end]))
        for members, (start, end) in zip(masks, pairwise(bounds.tolist()), strict=True)
    ]


def _alike(one: int, other: int) -> bool:
    return 100 * (one & other).bit_count() >= SAME_GROUP_PERCENT * (one | other).bit_count()


def _members(sample: list[Kept], members: int) -> list[Kept]:
    return [kept for place, kept in enumerate(sample) if members >> place & 1]


def _union(masks: list[int]) -> int:
    union = 0
    for members in masks:
        union |= members
    return union
