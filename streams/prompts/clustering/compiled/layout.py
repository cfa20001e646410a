"""Where the shingles of sets stand in a text, and what the tokens around them are."""

from __future__ import annotations

import sys

import numpy as np
from numba import types
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

# Changing one word changes three shingles: fewer other shingles than this between two parts is only their seam.
SEAM = 3
QUANTITY_SHINGLES_MAX = SEAM + 2  # that a number and a unit of a word or two change
MARKS_MAX = 4  # marks between a label and the first word of its value

# What a token is, each a bit: by its first character (a mark has no other), a number by all of them.
WORD, NUMBER, BREAK, OPENING, SENTENCE_END, VALUE_END = 1, 2, 4, 8, 16, 32
_MARKS = (
    (BREAK, "\n"),
    # Marks after which a template usually puts a value: labels, assignments, quotations, brackets.
    (OPENING, ":：=\"“”'‘`([{<>|「『《【（"),
    (SENTENCE_END, ".!?。！？"),
    (VALUE_END, ":：;；\"”'’)]}>|」』】）"),
)

VALUE, EDGE, WORDING = range(3)  # how a group lies between constants
_OUTSIDE, _VARYING, _CONSTANT, _OWN = range(4)  # what stands in a run, or around it

# What is true of a gap, each a bit.
SETS_IN, GOES_ON, LABELLED, DELIMITED, QUANTITY, CLOSES = 1, 2, 4, 8, 16, 32
_COLUMNS = 5

_INTS, _BYTES = types.int64[::1], types.uint8[::1]
_CODES = types.Array(types.uint32, 1, "C", readonly=True)


def characters(words: NDArray[np.bool_], decimals: NDArray[np.bool_]) -> Bytes:
    """Return for every character what a token of it would be; words and decimals are told by arrays as long."""
    found = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    found[words] = WORD
    found[ord("_")] = 0
    found[decimals] |= NUMBER
    for bit, marks in _MARKS:
        found[list(map(ord, marks))] |= bit
    return found


@kernel(_BYTES(_CODES, _INTS, _INTS, _BYTES))
def kinds(codes: NDArray[np.uint32], starts: Ints, ends: Ints, of_characters: Bytes) -> Bytes:
    """Return what each token of a text is."""
    found = np.empty(starts.size, dtype=np.uint8)
    for token in range(starts.size):
        kind = of_characters[codes[starts[token]]]
        for place in range(starts[token] + 1, ends[token]):
            if not kind & of_characters[codes[place]] & NUMBER:
                kind &= ~NUMBER
                break
        found[token] = kind
    return found


@kernel()
def _held(shingles: Ints, first: Ints, second: Ints, third: Ints) -> Bytes:
    """Return for each of these shingles which sets hold it: 1 for the first, 2 for the second, 4 for the third."""
    size = 2
    while size < 2 * (first.size + second.size + third.size):
        size <<= 1
    known, holders = np.empty(size, dtype=np.int64), np.zeros(size, dtype=np.uint8)
    bit = 1
    for members in (first, second, third):
        for shingle in members:
            slot = (shingle >> 2) & (size - 1)  # without the marks of ends
            while holders[slot] and known[slot] != shingle:
                slot = (slot + 1) & (size - 1)
            known[slot] = shingle
            holders[slot] |= bit
        bit <<= 1
    held = np.empty(shingles.size, dtype=np.uint8)
    for place in range(shingles.size):
        slot = (shingles[place] >> 2) & (size - 1)
        while holders[slot] and known[slot] != shingles[place]:
            slot = (slot + 1) & (size - 1)
        held[place] = holders[slot]
    return held


@kernel()
def _about(kinds: Bytes, start: int, end: int, tail_start: int, lead: int, tail: int, own: int, numbers: int) -> int:
    """Return what is true of a gap.

    Args:
        kinds: of all tokens of the text.
        start, end: the first and the last place whose shingle is no constant.
        tail_start: where the shingles that the group ends with begin, or `start` if there are none.
        lead, tail: how many of the group's shingles it begins with, and ends with.
        own: how many of the group's shingles lie in it.
        numbers: how many numbers they stand at.
    """
    last = end + 1 == kinds.size
    bounded = last or not kinds[end] & WORD
    signs = (SETS_IN if start else 0) | (0 if last else GOES_ON)
    before = 0  # what the token is that it follows, and the marks before that one if it is a mark: values begin alike
    if start:
        for place in range(start, max(0, start - MARKS_MAX + 1) - 1, -1):
            if kinds[place] & WORD and place < start:
                break
            before |= kinds[place]
            if kinds[place] & WORD:
                break
        if bounded and before & OPENING:
            signs |= LABELLED | DELIMITED
        if bounded and before & BREAK:
            signs |= DELIMITED
    elif not last and kinds[end] & BREAK:
        signs |= DELIMITED
    if own <= QUANTITY_SHINGLES_MAX and numbers:
        signs |= QUANTITY
    if last and not lead and tail == own:
        for place in range(max(0, tail_start - 1), min(tail_start + 2, kinds.size)):
            if kinds[place] & (BREAK | SENTENCE_END):
                signs |= CLOSES
    return signs


@kernel(types.int64[:, ::1](_INTS, _BYTES, _INTS, _INTS, _INTS))
def gaps(shingles: Ints, kinds: Bytes, group: Ints, constants: Ints, unique: Ints) -> Ints:
    """Return the stretches between constants in which shingles of a group lie, a row each.

    Args:
        shingles: of each token of a text the one it is the middle of.
        kinds: what each token is.
        group, constants: the sets.
        unique: the shingles that stand in the text once: others say nothing.

    Returns:
        the first and the last place of a stretch, how many of the group's shingles lie in it, how many it begins or
        ends with (the larger number), what is true of it.
    """
    held = _held(shingles, constants, group, unique)
    found = np.empty((shingles.size // 2 + 1, _COLUMNS), dtype=np.int64)
    count = 0
    size = own = lead = tail = numbers = start = tail_start = last = between = 0
    for place in range(shingles.size + 1):
        at_end = place == shingles.size
        if not at_end:
            if held[place] & 1:
                between += 1
                continue
            if not held[place] & 4:
                continue
        # One or two constants amid a stretch are a turn of phrase that two values happen to share, unless a label.
        if at_end or between >= SEAM or (between and kinds[place] & OPENING):
            if own:
                first = tail_start if tail else start
                about = _about(kinds, start, last, first, lead, tail, own, numbers)
                found[count] = start, last, own, max(lead, tail), about
                count += 1
            size = own = lead = tail = numbers = 0
        if at_end:
            break
        if size == 0:
            start = place
        if held[place] & 2:
            lead += own == size
            tail_start = tail_start if tail else place
            tail += 1
            own += 1
            numbers += (kinds[place] & NUMBER) > 0
        else:
            tail = 0
        size += 1
        last = place
        between = 0
    return found[:count].copy()


@kernel()
def _runs(held: Bytes) -> tuple[Ints, Ints]:
    """Return what stands in a prompt one after the other, without seams: what each run is, and its size."""
    whats, sizes = np.empty(held.size, dtype=np.int64), np.empty(held.size, dtype=np.int64)
    count = start = 0
    for place in range(held.size):
        what = _OWN if held[place] & 2 else _CONSTANT if held[place] else _VARYING  # what both hold is the group's
        following = -1
        if place + 1 < held.size:
            following = _OWN if held[place + 1] & 2 else _CONSTANT if held[place + 1] else _VARYING
        if following == what:
            continue
        size = place + 1 - start
        start = place + 1
        if what == _VARYING and size < SEAM:
            continue
        if count and whats[count - 1] == what:
            sizes[count - 1] += size
            continue
        whats[count], sizes[count] = what, size
        count += 1
    return whats[:count], sizes[:count]


@kernel(types.int64(_INTS, _INTS, _INTS))
def lay(order: Ints, group: Ints, constants: Ints) -> int:
    """Return how a group lies between the constants of a prompt, whose shingles stand in this order."""
    whats, sizes = _runs(_held(order, constants, group, constants[:0]))
    fills = 0
    edge = False
    for run in range(whats.size):
        if whats[run] != _OWN:
            continue
        before = whats[run - 1] if run else _OUTSIDE
        after = whats[run + 1] if run + 1 < whats.size else _OUTSIDE
        if sizes[run] >= SEAM and (before == _VARYING or after == _VARYING):
            return WORDING
        fills += 1
        edge = edge or before == _OUTSIDE or after == _OUTSIDE
    return EDGE if edge or fills > 1 else VALUE


@kernel()
def _crosses(kinds: Bytes, start: int, end: int, distinctive: bool) -> bool:
    """Tell whether a sentence ends in a stretch and another follows, before a mark ends the first value.

    A line break ends a value too, if the constants say anything by themselves.
    """
    for place in range(start, end - 1):
        if kinds[place] & VALUE_END:
            return False
        if kinds[place] & SENTENCE_END:
            return not (distinctive and kinds[place + 1] & BREAK)
        if kinds[place] & BREAK:
            return not distinctive
    return False


@kernel(types.int64(_INTS, _BYTES, _INTS, types.boolean))
def running_on(shingles: Ints, kinds: Bytes, constants: Ints, distinctive: bool) -> int:
    """Return how many tokens stand in stretches that set in within a sentence and run over its end."""
    held = _held(shingles, constants, constants[:0], constants[:0])
    running = start = 0
    for place in range(shingles.size + 1):
        if place < shingles.size and not held[place]:
            continue
        long = start and place - start >= SEAM
        if long and kinds[start] & WORD and _crosses(kinds, start + 1, place, distinctive):
            running += place - start
        start = place + 1
    return running
