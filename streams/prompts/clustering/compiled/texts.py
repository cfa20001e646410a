"""From a text's characters to its tokens and shingles."""

from __future__ import annotations

import re
import sys

import numpy as np
from numba import types
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

Codes = NDArray[np.uint32]  # a text in UTF-32
Hashes = NDArray[np.uint64]

STARTS = 1  # bit of the shingle that opens a prompt
ENDS = 2  # bit of the shingle that closes it

# Classes of characters, each a bit.
WORD, DECIMAL, SPACE, UNSPACED = 1, 2, 4, 8
_PATTERNS = (
    (WORD, r"\w+"),
    (DECIMAL, r"\d+"),
    (SPACE, r"\s+"),
    (UNSPACED, "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"),  # Thai, kana, Han, Hangul
)
_LINE_BREAK = ord("\n")

# The two lowest bits of a token's identity tell what it is.
_KIND = np.uint64(3)
_WORD, _MARK, _NUMBER = np.uint64(0), np.uint64(1), np.uint64(2)
_ANY_NUMBER = np.uint64(4) | _NUMBER  # the identity of every number beside a word
_EDGE = np.uint64(8) | _WORD  # of what lies outside a prompt: as sure as a word

# Odd 64-bit constants (fractional parts of square roots): tokens' hashes are well mixed, so that a sum of them, each
# times a constant of its place, is one too.
_FIRST, _SECOND = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B)
_SHIFT = np.uint64(3)
HASH_BITS = 60
_HASH = np.uint64((1 << HASH_BITS) - 4)  # the two lowest bits are the marks
_SEED, _STEP = np.uint64(0xCBF29CE484222325), np.uint64(0x00000100000001B3)  # of FNV-1a
_MIXER_1, _MIXER_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # of SplitMix64

_CODES = types.Array(types.uint32, 1, "C", readonly=True)
_CLASSES = types.Array(types.uint8, 1, "C", readonly=True)
_INTS = types.int64[::1]


def classes() -> Bytes:
    """Return the classes of all characters there are."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    found = np.zeros(len(everything), dtype=np.uint8)
    for bit, pattern in _PATTERNS:
        for run in re.finditer(pattern, everything):
            found[run.start() : run.end()] |= bit
    return found


@kernel()
def _mixed(mixed: np.uint64) -> np.uint64:
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIXER_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIXER_2
    return mixed ^ (mixed >> np.uint64(31))


@kernel()
def _tokens(codes: Codes, classes: Bytes) -> tuple[Ints, Ints, Hashes]:
    """Return where the tokens of a text start and end, and who they are.

    A token is a word, a character of a script without spaces, a mark, or line breaks that follow each other.
    """
    starts, ends = np.empty(codes.size, dtype=np.int64), np.empty(codes.size, dtype=np.int64)
    identities = np.empty(codes.size, dtype=np.uint64)
    count = 0
    at = 0
    while at < codes.size:
        start = at
        what = classes[codes[at]]
        identity = (_SEED ^ np.uint64(codes[at])) * _STEP
        at += 1
        kind = _MARK
        if what & UNSPACED:
            if what & WORD:
                kind = _NUMBER if what & DECIMAL else _WORD
        elif what & WORD:
            decimal = what & DECIMAL
            while at < codes.size and classes[codes[at]] & (WORD | UNSPACED) == WORD:
                decimal &= classes[codes[at]]
                identity = (identity ^ np.uint64(codes[at])) * _STEP
                at += 1
            kind = _NUMBER if decimal else _WORD
        elif codes[start] == _LINE_BREAK:
            while at < codes.size and codes[at] == _LINE_BREAK:
                identity = (identity ^ np.uint64(_LINE_BREAK)) * _STEP
                at += 1
        elif what & SPACE:
            continue
        starts[count], ends[count] = start, at
        identities[count] = (_mixed(identity) & ~_KIND) | kind
        count += 1
    return starts[:count], ends[:count], identities[:count]


@kernel()
def _mix(first: np.uint64, second: np.uint64, third: np.uint64) -> np.uint64:
    """Return a sum of three tokens, each times a constant of its place; beside a word all numbers are one."""
    if first & _KIND == _WORD or second & _KIND == _WORD or third & _KIND == _WORD:
        first = _ANY_NUMBER if first & _KIND == _NUMBER else first
        second = _ANY_NUMBER if second & _KIND == _NUMBER else second
        third = _ANY_NUMBER if third & _KIND == _NUMBER else third
    return ((first * _FIRST + second * _SECOND + third) >> _SHIFT) & _HASH


@kernel()
def _shingles(identities: Hashes) -> Ints:
    """Return for each token the shingle it is the middle of."""
    mixed = np.empty(identities.size, dtype=np.int64)
    before = _EDGE
    for place in range(identities.size):
        after = identities[place + 1] if place + 1 < identities.size else _EDGE
        mixed[place] = np.int64(_mix(before, identities[place], after))
        before = identities[place]
    return mixed


@kernel()
def _ascending(hashes: Ints) -> Ints:
    """Return the places of hashes in ascending order.

    Hashes are spread evenly, so by their first bits they are all but sorted.
    """
    bits = 0
    while 1 << bits < hashes.size:
        bits += 1
    shift = HASH_BITS - bits
    starts = np.zeros((1 << bits) + 1, dtype=np.int64)
    for value in hashes:
        starts[(value >> shift) + 1] += 1
    starts = np.cumsum(starts)
    places = np.empty(hashes.size, dtype=np.int64)
    for place in range(hashes.size):
        bucket = hashes[place] >> shift
        places[starts[bucket]] = place
        starts[bucket] += 1
    for rank in range(1, places.size):
        place = places[rank]
        at = rank
        while at > 0 and hashes[places[at - 1]] > hashes[place]:
            places[at] = places[at - 1]
            at -= 1
        places[at] = place
    return places


@kernel()
def _distinct(order: Ints, left: Ints, ascending: Ints) -> int:
    """Fill in the values that stand once in an array, in their order and ascending; return how many."""
    places = _ascending(order)
    single = np.empty(order.size, dtype=np.bool_)
    count = 0
    for rank in range(places.size):
        value = order[places[rank]]
        again = rank > 0 and order[places[rank - 1]] == value
        again = again or (rank + 1 < places.size and order[places[rank + 1]] == value)
        single[places[rank]] = not again
        if not again:
            ascending[count] = value
            count += 1
    taken = 0
    for place in range(order.size):
        if single[place]:
            left[taken] = order[place]
            taken += 1
    return count


@kernel()
def _mark(shingles: Ints) -> None:
    """Mark the ends of a text."""
    if shingles.size:
        shingles[0] |= STARTS
        shingles[-1] |= ENDS


@kernel(types.UniTuple(_INTS, 3)(_CODES, _INTS, _CLASSES, types.int64))
def sketched(codes: Codes, text_ends: Ints, classes: Bytes, most: int) -> tuple[Ints, Ints, Ints]:
    """Return the shingles that each text has once, in their order and ascending, and how many; of `most` its ends.

    Texts stand one behind the other in `codes`, and what is returned of them as well.
    """
    order, ascending = np.empty(codes.size, dtype=np.int64), np.empty(codes.size, dtype=np.int64)
    counts = np.empty(text_ends.size, dtype=np.int64)
    start = used = 0
    for text, end in enumerate(text_ends):
        shingles = _shingles(_tokens(codes[start:end], classes)[2])
        if shingles.size > most:
            half = most // 2
            shingles = np.concatenate((shingles[:half], shingles[-half:]))
        _mark(shingles)
        counts[text] = _distinct(shingles, order[used:], ascending[used:])
        used += counts[text]
        start = end
    return order[:used].copy(), ascending[:used].copy(), counts


@kernel(types.Tuple((_INTS, _INTS, _INTS))(_CODES, _CLASSES))
def located(codes: Codes, classes: Bytes) -> tuple[Ints, Ints, Ints]:
    """Return where the tokens of a text start and end, and the shingle that each is the middle of."""
    starts, ends, identities = _tokens(codes, classes)
    shingles = _shingles(identities)
    _mark(shingles)
    return starts.copy(), ends.copy(), shingles
