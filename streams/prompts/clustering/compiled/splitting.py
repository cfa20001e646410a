"""Which members of a sample hold the same shingles.

A set of members is a row of words, a bit for each: member m is bit m % 64 of word m // 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.compiler import Ints, kernel

Words = NDArray[np.uint64]
WORD_BITS = 64
_ODD_BITS, _PAIRS, _NIBBLES = (
    np.uint64(0x5555555555555555),
    np.uint64(0x3333333333333333),
    np.uint64(0x0F0F0F0F0F0F0F0F),
)
_ONES = np.uint64(0x0101010101010101)


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
def _member_sets(held: Ints, starts: Ints, shared: Ints) -> Words:
    """Return which members hold each of the shared shingles."""
    words = (starts.size - 1 + WORD_BITS - 1) // WORD_BITS
    members = np.zeros((shared.size, words), dtype=np.uint64)
    for member in range(starts.size - 1):
        place = 0
        bit = np.uint64(1) << np.uint64(member % WORD_BITS)
        for shingle in held[starts[member] : starts[member + 1]]:
            while place < shared.size and shared[place] < shingle:
                place += 1
            if place < shared.size and shared[place] == shingle:
                members[place, member // WORD_BITS] |= bit
    return members


@kernel()
def _distinct(members: Words, most: int) -> tuple[Ints, Ints, Ints]:
    """Return for each set of at most `most` members the number of its like (else -1), and of these one and how many."""
    number_of = np.full(members.shape[0], -1, dtype=np.int64)
    ones, counts = np.empty(members.shape[0], dtype=np.int64), np.zeros(members.shape[0], dtype=np.int64)
    known = 0
    for row in range(members.shape[0]):
        size = 0
        for word in members[row]:
            size += _bits(word)
        if size > most:
            continue
        number = 0
        while number < known and not np.array_equal(members[ones[number]], members[row]):
            number += 1
        if number == known:
            ones[known] = row
            known += 1
        number_of[row] = number
        counts[number] += 1
    return number_of, ones[:known], counts[:known]


@kernel("Tuple((u8[:,::1], i8[::1]))(i8[::1], i8[::1], i8[::1], i8, i8, i8)")
def grouped(held: Ints, starts: Ints, shared: Ints, most: int, looked_at: int, percent: int) -> tuple[Words, Ints]:
    """Group the shingles that about the same members hold.

    Args:
        held: the shingles of all members, one member after the other, each ascending.
        starts: where those of each member start, and the end.
        shared: those to be grouped, ascending.
        most: what more members hold is in no group.
        looked_at: only so many sets of members, those with the most shingles times members, are.
        percent: two sets are about the same if so much of both is in either.

    Returns:
        the set of members that each group began with; the group of each shared shingle, or -1.
    """
    members = _member_sets(held, starts, shared)
    number_of, ones, counts = _distinct(members, most)
    weights = np.empty(ones.size, dtype=np.int64)
    order = np.empty(ones.size, dtype=np.int64)
    for number in range(ones.size):
        size = 0
        for word in members[ones[number]]:
            size += _bits(word)
        weights[number] = size * counts[number]
        at = number
        while at > 0:
            other = order[at - 1]
            if weights[other] > weights[number]:
                break
            if weights[other] == weights[number] and _is_less(members[ones[other]], members[ones[number]]):
                break
            order[at] = other
            at -= 1
        order[at] = number
    order = order[:looked_at]
    group_of = np.full(ones.size, -1, dtype=np.int64)
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
    return firsts[:groups].copy(), number_of
