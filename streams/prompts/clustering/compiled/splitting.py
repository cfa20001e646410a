"""Which members of a sample hold the same shingles.

A set of members is a row of words, a bit for each: member m is bit m % 64 of word m // 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.compiler import SPREAD_SHIFT, Ints, kernel

Words = NDArray[np.uint64]
WORD_BITS = 64
_ODD_BITS, _PAIRS, _NIBBLES = (
    np.uint64(0x5555555555555555),
    np.uint64(0x3333333333333333),
    np.uint64(0x0F0F0F0F0F0F0F0F),
)
_ONES = np.uint64(0x0101010101010101)
_MIXER = np.uint64(0xBF58476D1CE4E5B9)  # of SplitMix64
NONE = -1


@kernel()
def _bits(word: np.uint64) -> int:
    word = word - ((word >> np.uint64(1)) & _ODD_BITS)
    word = (word & _PAIRS) + ((word >> np.uint64(2)) & _PAIRS)
    word = (word + (word >> np.uint64(4))) & _NIBBLES
    return int((word * _ONES) >> np.uint64(56))


@kernel()
def _is_less(one: Words, other: Words) -> bool:
    for place in range(one.size - 1, -1, -1):
        if one[place] != other[place]:
            return one[place] < other[place]
    return False


@kernel()
def _are_alike(one: Words, other: Words, percent: int) -> bool:
    both = either = 0
    for place in range(one.size):
        both += _bits(one[place] & other[place])
        either += _bits(one[place] | other[place])
    return 100 * both >= percent * either


@kernel()
def _place(table: Ints, known: Ints, shingle: int, spread: int) -> int:
    """Return where the number of a shingle stands in a hash table, or may be written."""
    slot = ((shingle * spread) >> SPREAD_SHIFT) & (table.size - 1)
    while table[slot] != NONE and known[table[slot]] != shingle:
        slot = (slot + 1) & (table.size - 1)
    return slot


@kernel()
def _table(entries: int) -> Ints:
    """Return an empty hash table with room for so many entries."""
    room = 2
    while room < 2 * entries:
        room <<= 1
    return np.full(room, NONE, dtype=np.int64)


@kernel()
def _shared(held: Ints, starts: Ints, constants: Ints, least: int, spread: int) -> tuple[Ints, Words]:
    """Return the shingles that at least so many members hold, but the constants, ascending, and who holds each."""
    words = (starts.size - 1 + WORD_BITS - 1) // WORD_BITS
    table = _table(held.size + constants.size)
    known = np.empty(held.size + constants.size, dtype=np.int64)
    counts = np.zeros(known.size, dtype=np.int64)
    members = np.zeros((known.size, words), dtype=np.uint64)
    for number, shingle in enumerate(constants):
        known[number] = shingle
        table[_place(table, known, shingle, spread)] = number
    count = constants.size
    for member in range(starts.size - 1):
        bit = np.uint64(1) << np.uint64(member % WORD_BITS)
        for shingle in held[starts[member] : starts[member + 1]]:
            slot = _place(table, known, shingle, spread)
            number = table[slot]
            if number == NONE:
                number = table[slot] = count
                known[number] = shingle
                count += 1
            counts[number] += 1
            members[number, member // WORD_BITS] |= bit
    chosen = np.flatnonzero(counts[constants.size : count] >= least) + constants.size
    chosen = chosen[np.argsort(known[chosen])]
    return known[chosen], members[chosen]


@kernel()
def _seat(table: Ints, members: Words, ones: Ints, row: int) -> int:
    """Return where the number of a set's like stands in a hash table, or may be written."""
    mixed = np.uint64(0)
    for word in members[row]:
        mixed = (mixed ^ word) * _MIXER
        mixed ^= mixed >> np.uint64(32)
    slot = np.int64(mixed & np.uint64(table.size - 1))
    while table[slot] != NONE and not np.array_equal(members[ones[table[slot]]], members[row]):
        slot = (slot + 1) & (table.size - 1)
    return int(slot)


@kernel()
def _distinct(members: Words, most: int) -> tuple[Ints, Ints, Ints]:
    """Return for each set of at most `most` members the number of its like (else -1), and of these one and how many."""
    table = _table(members.shape[0])
    number_of = np.full(members.shape[0], NONE, dtype=np.int64)
    ones, counts = np.empty(members.shape[0], dtype=np.int64), np.zeros(members.shape[0], dtype=np.int64)
    known = 0
    for row in range(members.shape[0]):
        size = 0
        for word in members[row]:
            size += _bits(word)
        if size > most:
            continue
        slot = _seat(table, members, ones, row)
        if table[slot] == NONE:
            table[slot] = known
            ones[known] = row
            known += 1
        number_of[row] = table[slot]
        counts[table[slot]] += 1
    return number_of, ones[:known], counts[:known]


@kernel()
def _by_group(shingles: Ints, group_of: Ints, groups: int) -> tuple[Ints, Ints]:
    """Return the shingles of all groups, one group after the other, each ascending, and where each begins."""
    bounds = np.zeros(groups + 1, dtype=np.int64)
    for group in group_of:
        if group != NONE:
            bounds[group + 1] += 1
    for group in range(groups):
        bounds[group + 1] += bounds[group]
    free = bounds[:groups].copy()
    sorted_out = np.empty(bounds[groups], dtype=np.int64)
    for shingle, group in zip(shingles, group_of):  # noqa: B905  Numba knows no `strict`
        if group != NONE:
            sorted_out[free[group]] = shingle
            free[group] += 1
    return sorted_out, bounds


@kernel("Tuple((u8[:,::1], i8[::1], i8[::1]))(i8[::1], i8[::1], i8[::1], i8, i8, i8, i8, i8)")
def grouped(
    held: Ints, starts: Ints, constants: Ints, least: int, most: int, looked_at: int, percent: int, spread: int
) -> tuple[Words, Ints, Ints]:
    """Group the shingles that about the same members hold.

    Args:
        held: the shingles of all members, one member after the other.
        starts: where those of each member start, and the end.
        constants: what is in no group.
        least, most: what fewer or more members hold is in no group.
        looked_at: only so many sets of members, those with the most shingles times members, are.
        percent: two sets are about the same if so much of both is in either.
        spread: `compiler.SPREAD`.

    Returns:
        the set of members that each group began with; the shingles of the groups; where each group begins among
        them, and the end.
    """
    shared, members = _shared(held, starts, constants, least, spread)
    number_of, ones, counts = _distinct(members, most)
    weights = np.empty(ones.size, dtype=np.int64)
    order = np.empty(looked_at + 1, dtype=np.int64)  # the last one is for whom there is no room
    taken = 0
    for number in range(ones.size):
        size = 0
        for word in members[ones[number]]:
            size += _bits(word)
        weights[number] = size * counts[number]
        at = taken
        while at > 0:
            other = order[at - 1]
            if weights[other] > weights[number]:
                break
            if weights[other] == weights[number] and _is_less(members[ones[other]], members[ones[number]]):
                break
            order[at] = other
            at -= 1
        order[at] = number
        taken = min(taken + 1, looked_at)
    order = order[:taken]
    group_of = np.full(ones.size, NONE, dtype=np.int64)
    firsts = np.empty((order.size, members.shape[1]), dtype=np.uint64)
    groups = 0
    for place in range(order.size):
        if group_of[order[place]] >= 0:
            continue
        first = members[ones[order[place]]]
        firsts[groups] = first
        for later in order[place:]:
            if group_of[later] < 0 and _are_alike(first, members[ones[later]], percent):
                group_of[later] = groups
        groups += 1
    for row in range(shared.size):
        if number_of[row] >= 0:
            number_of[row] = group_of[number_of[row]]
    shingles, bounds = _by_group(shared, number_of, groups)
    return firsts[:groups].copy(), shingles, bounds
