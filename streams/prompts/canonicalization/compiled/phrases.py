"""Phrases that texts have in common: each is known by where it first stands."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from streams.compiler import Bytes, Ints, kernel

NONE = -1
START, END = 0, 1  # rows of a strip: where each text starts, and where it ends
SIZE_MAX = 4  # of a phrase, in words

_SPREAD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_INTS, _ROWS = types.int64[::1], types.int64[:, ::1]


@kernel()
def _table(count: int) -> Ints:
    """Return an empty hash table for so many phrases."""
    size = 2
    while size < 2 * count:
        size <<= 1
    return np.full(size, NONE, dtype=np.int64)


@kernel()
def _first(words: Ints, table: Ints, at: int, size: int, new: bool) -> int:
    """Return where a phrase first stands; NONE if it is not known, unless it is new: that is here, then."""
    mixed = np.uint64(0)
    for place in range(at, at + size):
        mixed = (mixed + np.uint64(words[place])) * _SPREAD
    slot = np.int64((mixed >> _SHIFT) & np.uint64(table.size - 1))
    while table[slot] != NONE:
        same = 0
        while same < size and words[table[slot] + same] == words[at + same]:
            same += 1
        if same == size:
            break
        slot = (slot + 1) & (table.size - 1)
    if new and table[slot] == NONE:
        table[slot] = at
    return table[slot]


@kernel()
def _next(words: Ints, numbers: Ints, before: int, at: int, size: int) -> int:
    """Return where the phrase first stands that begins a word behind a known one, if that is as it was there; or NONE.

    Mostly it is, and need not be searched for.
    """
    if before == NONE or numbers[before + 1] == NONE or words[before + size] != words[at + size - 1]:
        return NONE
    return numbers[before + 1]


@kernel()
def _held_by(words: Ints, ends: Ints, least: int) -> Bytes:
    """Return for each word whether at least so many texts hold it."""
    holders, seen = np.zeros(words.size, dtype=np.int64), np.full(words.size, NONE, dtype=np.int64)
    start = 0
    for text in range(ends.size):
        for at in range(start, ends[text]):
            holders[words[at]] += seen[words[at]] != text
            seen[words[at]] = text
        start = ends[text]
    held = np.zeros(words.size, dtype=np.uint8)
    for word in range(words.size):
        held[word] = holders[word] >= least
    return held


@kernel()
def _number(words: Ints, strip: Ints, size: int, shorter: Ints, seen: Ints, numbers: Ints) -> bool:
    """Fill in where the phrases of a size begin that all texts hold, given those that are a word shorter."""
    texts = strip.shape[1]
    table = _table(strip[END, 0] - strip[START, 0])
    some = False
    for text in range(texts):
        some = False
        before = NONE
        for at in range(strip[START, text], strip[END, text] - size + 1):
            if shorter[at] == NONE or shorter[at + 1] == NONE:
                before = NONE
                continue
            phrase = _next(words, numbers, before, at, size)
            if phrase == NONE:
                phrase = _first(words, table, at, size, text == 0)
            if phrase != NONE and (text == 0 or seen[phrase] >= text - 1):
                seen[phrase] = text
                numbers[at] = phrase
                some = True
            before = phrase
        if not some:
            break
    for text in range(texts):
        for at in range(strip[START, text], strip[END, text] - size + 1):
            if numbers[at] != NONE and seen[numbers[at]] < texts - 1:
                numbers[at] = NONE
    return some


@kernel(_ROWS(_INTS, _ROWS))
def shared(words: Ints, strip: Ints) -> Ints:
    """Return for each size and place of a strip the phrase that begins there, NONE if it is not one all texts hold.

    A phrase is known by where it first stands in the strip of the first text. There are rows for the sizes of which
    there are such phrases, and for none and one.
    """
    numbers = np.full((SIZE_MAX + 1, words.size), NONE, dtype=np.int64)
    firsts, seen = np.full(words.size, NONE, dtype=np.int64), np.full(words.size, NONE, dtype=np.int64)
    texts = strip.shape[1]
    for text in range(texts):
        for at in range(strip[START, text], strip[END, text]):
            word = words[at]
            if text == 0 and firsts[word] == NONE:
                firsts[word] = at
            if text == 0 or seen[word] == text - 1:
                seen[word] = text
    for text in range(texts):
        for at in range(strip[START, text], strip[END, text]):
            if seen[words[at]] == texts - 1:
                numbers[1, at] = firsts[words[at]]
    longest = 1
    while longest < SIZE_MAX:
        seen[:] = NONE
        if not _number(words, strip, longest + 1, numbers[longest], seen, numbers[longest + 1]):
            break
        longest += 1
    return numbers[: longest + 1]


@kernel(_INTS(_INTS, _INTS, types.int64, types.float64, types.float64))
def familiar(words: Ints, ends: Ints, size: int, share_min: float, landmarks_min: float) -> Ints:
    """Return the texts that hold enough of the phrases that most texts hold.

    Args:
        size: of a phrase, in words.
        share_min: share of the texts that are most of them.
        landmarks_min: share of the phrases of most that are enough.
    """
    need = math.ceil(share_min * ends.size)
    held = _held_by(words, ends, need)
    table = _table(words.size)
    numbers = np.full(words.size, NONE, dtype=np.int64)
    holders, seen = np.zeros(words.size, dtype=np.int64), np.full(words.size, NONE, dtype=np.int64)
    start = 0
    for text in range(ends.size):
        before, run = NONE, 0
        for end in range(start, ends[text]):
            run = run + 1 if held[words[end]] else 0
            if run < size:
                before = NONE
                continue
            at = end - size + 1
            phrase = _next(words, numbers, before, at, size)
            if phrase == NONE:
                phrase = _first(words, table, at, size, True)
            if seen[phrase] != text:
                seen[phrase] = text
                holders[phrase] += 1
            numbers[at] = before = phrase
        start = ends[text]
    common = 0
    for many in holders:
        common += int(many >= need)
    kept = np.empty(ends.size, dtype=np.int64)
    count = start = 0
    seen[:] = NONE
    for text in range(ends.size):
        known = 0
        for at in range(start, ends[text]):
            phrase = numbers[at]
            if phrase != NONE and holders[phrase] >= need and seen[phrase] != text:
                seen[phrase] = text
                known += 1
        if known >= landmarks_min * common:
            kept[count] = text
            count += 1
        start = ends[text]
    return kept[:count].copy()
