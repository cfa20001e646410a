"""The words that values share, counted in machine code: `evolution.py` says what it means.

Mostly no word is new among the newest values, and then nobody has to know which words there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

Small = NDArray[np.int32]  # half as much memory to run through
Letters = NDArray[np.bool_]  # which characters words are made of

WORD_CHARS_MIN = 2
BYTES_MAX = 16_000  # of the newest values of a slot: with more, words made to meet in the table would take long
CHARACTERS = 0x40000  # beyond there are marks only: nothing is assigned that is a word
LONGER, OF_THREE, OF_FOUR = 0x80, 0xE0, 0xF0  # in UTF-8, from which byte on characters are of two bytes, three, four
GOLDEN = 2_654_435_769  # 2**32 by the golden ratio: multiples of it spread evenly
MARK_BITS = 31  # of the hash of a word
PLACES_BITS = 10

WORD_FIELDS = 4
START, END, MARK, VALUE = range(WORD_FIELDS)  # of a word: where it begins and ends, its hash, and the value it is in

# What is known of different words: where one first stood, the last value that held it, how many of the newest values
# and of the last of them did, and how many earlier ones would have to, beside those that do, so that it is nothing new.
KNOWN_FIELDS = 6
FIRST, BEHIND, SEEN_IN, NEWEST, LATELY, LACKING = range(KNOWN_FIELDS)


def letters() -> Letters:
    """Return which characters are letters or digits."""
    return np.char.isalnum(np.arange(CHARACTERS, dtype=np.uint32).view("U1"))


@kernel()
def _cut(written: Bytes, ends: Ints, letters: Letters, words: Small) -> int:
    """Write the words of values; return how many there are."""
    count = 0
    for value in range(ends.size - 1):
        at, end = ends[value], ends[value + 1]
        while at < end:
            start, chars, mark, behind = at, 0, 0, at
            while at < end:
                code, behind = np.int64(written[at]), at + 1
                if code >= LONGER:
                    behind += 1 + int(code >= OF_THREE) + int(code >= OF_FOUR)
                    code &= 0x7F >> behind - at
                    for more in range(at + 1, behind):
                        code = code << 6 | written[more] & 0x3F
                if code >= letters.size or not letters[code]:
                    break
                chars += 1
                while at < behind:
                    mark = (mark + written[at]) * GOLDEN & (1 << MARK_BITS) - 1
                    at += 1
            if chars >= WORD_CHARS_MIN:
                words[count, START], words[count, END] = start, at
                words[count, MARK], words[count, VALUE] = mark, value
                count += 1
            at = behind
    return count


@kernel()
def _without_rare(words: Small, count: int, few: int) -> int:
    """Keep the words that so many values may hold; return how many there are.

    Most words soon turn out to be rare. Two may meet in a place; then both seem to be as frequent as they are together.
    """
    held = np.zeros(1 << PLACES_BITS, dtype=np.int32)
    seen_in = np.full(1 << PLACES_BITS, -1, dtype=np.int32)
    for word in range(count):
        place = words[word, MARK] >> MARK_BITS - PLACES_BITS
        held[place] += seen_in[place] != words[word, VALUE]
        seen_in[place] = words[word, VALUE]
    kept = 0
    for word in range(count):
        if held[words[word, MARK] >> MARK_BITS - PLACES_BITS] >= few:
            words[kept] = words[word]
            kept += 1
    return kept


@kernel()
def _place_of(written: Bytes, start: int, end: int, mark: int, table: Small, known: Small) -> int:
    """Return the place of the table where a word stands, or would."""
    place = mark >> 10 & (table.size - 1)
    while table[place] >= 0:
        first = known[table[place], FIRST]
        if known[table[place], BEHIND] - first == end - start:
            same = 0
            while start + same < end and written[first + same] == written[start + same]:
                same += 1
            if start + same == end:
                break
        place = (place + 1) & (table.size - 1)
    return place


@kernel()
def _count_newest(written: Bytes, words: Small, count: int, lately_from: int, table: Small, known: Small) -> int:
    """Count in how many values each word stands, and in how many of the last; return how many words there are."""
    different = 0
    table[:] = -1
    for word in range(count):
        start, end, value = words[word, START], words[word, END], words[word, VALUE]
        place = _place_of(written, start, end, words[word, MARK], table, known)
        if table[place] < 0:
            table[place] = different
            known[different, FIRST], known[different, BEHIND], known[different, SEEN_IN] = start, end, -1
            known[different, NEWEST] = known[different, LATELY] = 0
            different += 1
        one = table[place]
        if known[one, SEEN_IN] != value:
            known[one, SEEN_IN] = value
            known[one, NEWEST] += 1
            known[one, LATELY] += value >= lately_from
    return different


@kernel()
def _any_new(
    written: Bytes, ends: Ints, letters: Letters, words: Small, table: Small, known: Small, lacking: int
) -> bool:
    """Tell whether some of the known words stand in too few of these values; so many of them are looked for."""
    for value in range(ends.size - 1):
        for word in range(_cut(written, ends[value : value + 2], letters, words)):
            place = _place_of(written, words[word, START], words[word, END], words[word, MARK], table, known)
            one = table[place]
            if one >= 0 and known[one, SEEN_IN] != -2 - value:
                known[one, SEEN_IN] = -2 - value
                known[one, LACKING] -= 1
                lacking -= known[one, LACKING] == 0
        if not lacking:
            return False
    return True


@kernel("void(u1[::1], i8[:,::1], i8, i8, i8[::1], i8, b1[::1], b1[::1])")
def share_news(
    written: Bytes,
    sizes: Ints,
    split: int,
    few: int,
    familiar: Ints,
    familiar_lately: int,
    letters: Letters,
    told: NDArray[np.bool_],
) -> None:
    """Write for each slot whether its newest values may share a word that is too rare in the earlier ones.

    Of long texts no more is known than that they may.

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
        longest = 0
        for thing in range(things):
            ends[thing + 1] = ends[thing] + sizes[slot, thing]
            longest = max(longest, sizes[slot, thing])
        size = ends[things] - ends[split]
        told[slot] = size > BYTES_MAX
        if told[slot]:
            continue
        words = np.empty((max(size, longest) // WORD_CHARS_MIN + 1, WORD_FIELDS), dtype=np.int32)
        count = _without_rare(words, _cut(written, ends[split:], letters, words), few)
        if not count:
            continue
        table = np.empty(1 << int(np.ceil(np.log2(2 * count))), dtype=np.int32)
        known = np.empty((count, KNOWN_FIELDS), dtype=np.int32)
        lacking = 0
        for one in range(_count_newest(written, words, count, things - split - few, table, known)):
            lately = familiar_lately if known[one, LATELY] == few else 0
            known[one, LACKING] = max(familiar[known[one, NEWEST]], lately)
            lacking += known[one, LACKING] > 0
        if lacking:
            told[slot] = _any_new(written, ends[: split + 1], letters, words, table, known, lacking)
