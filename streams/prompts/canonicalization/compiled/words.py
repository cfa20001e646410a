"""The words that values share, counted in machine code: `evolution.py` says what it means.

Mostly no word is new among the newest values, and then nobody has to know which words there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

Small = NDArray[np.int32]  # half as much memory to run through

WORD_CHARS_MIN = 2
BYTES_MAX = 16_000  # of the newest values of a slot: with more, words made to meet in the table would take long
PLACES_BITS = 10
GOLDEN = 2_654_435_769  # 2**32 by the golden ratio: multiples of it spread evenly
IN_WORD = np.array([byte < 128 and chr(byte).isalnum() for byte in range(256)])  # of an ASCII text

# What is known of a word: where it first stood, the last value that held it, how many of the newest values, of the
# last of them and of the earlier ones did.
FIELDS = 6
START, END, SEEN_IN, NEWEST, LATELY, EARLIER = range(FIELDS)


@kernel()
def _next_word(written: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return where the next word begins and ends, and its hash; it begins at the end if there is none."""
    while at < end:
        start, mark = at, 0
        while at < end and IN_WORD[written[at]]:
            mark = (mark + written[at]) * GOLDEN & 0xFFFFFFFF
            at += 1
        if at - start >= WORD_CHARS_MIN:
            return start, at, mark
        at += 1
    return end, end, 0


@kernel()
def _repetitions_at_most(written: Bytes, ends: Ints) -> int:
    """Return a number that no word stands more often in these values; mostly that of the most frequent one.

    This is soon known, and mostly says that no word is frequent. Two words may meet in a place; then both seem to be.
    """
    times = np.zeros(1 << PLACES_BITS, dtype=np.int32)
    most = 0
    for value in range(ends.size - 1):
        start, end, mark = _next_word(written, ends[value], ends[value + 1])
        while start < end:
            place = mark >> 32 - PLACES_BITS
            times[place] += 1
            most = max(most, times[place])
            start, end, mark = _next_word(written, end, ends[value + 1])
    return most


@kernel()
def _place_of(written: Bytes, start: int, end: int, mark: int, table: Small, known: Small) -> int:
    """Return the place of the table where a word stands, or would."""
    place = mark >> 11 & (table.size - 1)
    while table[place] >= 0:
        first = known[table[place], START]
        if known[table[place], END] - first == end - start:
            same = 0
            while start + same < end and written[first + same] == written[start + same]:
                same += 1
            if start + same == end:
                break
        place = (place + 1) & (table.size - 1)
    return place


@kernel()
def _count_newest(written: Bytes, ends: Ints, few: int, table: Small, known: Small) -> int:
    """Count in how many of these values each word stands; return how many words there are."""
    words = 0
    table[:] = -1
    for value in range(ends.size - 1):
        start, end, mark = _next_word(written, ends[value], ends[value + 1])
        while start < end:
            place = _place_of(written, start, end, mark, table, known)
            if table[place] < 0:
                table[place] = words
                known[words, START], known[words, END], known[words, SEEN_IN] = start, end, -1
                known[words, NEWEST] = known[words, LATELY] = known[words, EARLIER] = 0
                words += 1
            word = table[place]
            if known[word, SEEN_IN] != value:
                known[word, SEEN_IN] = value
                known[word, NEWEST] += 1
                known[word, LATELY] += value >= ends.size - 1 - few
            start, end, mark = _next_word(written, end, ends[value + 1])
    return words


@kernel()
def _count_earlier(written: Bytes, ends: Ints, table: Small, known: Small) -> None:
    """Count in how many of these values each known word stands."""
    for value in range(ends.size - 1):
        start, end, mark = _next_word(written, ends[value], ends[value + 1])
        while start < end:
            place = _place_of(written, start, end, mark, table, known)
            if table[place] >= 0:
                word = table[place]
                known[word, EARLIER] += known[word, SEEN_IN] != -2 - value
                known[word, SEEN_IN] = -2 - value
            start, end, mark = _next_word(written, end, ends[value + 1])


@kernel("void(u1[::1], i8[:,::1], i8, i8, i8[::1], i8, b1[::1])")
def share_news(
    written: Bytes, sizes: Ints, split: int, few: int, familiar: Ints, familiar_lately: int, told: NDArray[np.bool_]
) -> None:
    """Write for each slot whether its newest values may share a word that is too rare in the earlier ones.

    Of long texts, and others than ASCII, no more is known than that they may.

    Args:
        written: the values of all slots one behind the other in UTF-8, for each slot the earlier ones first.
        sizes: of the values in bytes, a row for each slot.
        split: how many values of a slot are earlier ones.
        few: so many of the newest values are looked at apart, if all of them share a word.
        familiar: how many earlier values must hold a word, so that it is nothing new that so many of the newest do.
        familiar_lately: the same if all of the last few hold it.
    """
    slots, things = sizes.shape
    ends = np.zeros(things + 1, dtype=np.int64)
    for slot in range(slots):
        ends[0] = ends[things]
        for thing in range(things):
            ends[thing + 1] = ends[thing] + sizes[slot, thing]
        newest = written[ends[split] : ends[things]]
        told[slot] = newest.size > BYTES_MAX
        for byte in newest:
            told[slot] |= byte >= 128
        if told[slot] or _repetitions_at_most(written, ends[split:]) < few:
            continue
        words_max = newest.size // WORD_CHARS_MIN + 1
        table = np.empty(1 << int(np.ceil(np.log2(2 * words_max))), dtype=np.int32)
        known = np.empty((words_max, FIELDS), dtype=np.int32)
        words = _count_newest(written, ends[split:], few, table, known)
        often = False
        for word in range(words):
            often |= familiar[known[word, NEWEST]] > 0 or known[word, LATELY] == few
        if not often:
            continue
        _count_earlier(written, ends[: split + 1], table, known)
        for word in range(words):
            told[slot] |= known[word, EARLIER] < familiar[known[word, NEWEST]]
            told[slot] |= known[word, LATELY] == few and known[word, EARLIER] < familiar_lately
