"""From the characters of texts to their tokens, and to numbers that are equal where tokens are."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

Codes = NDArray[np.uint32]  # texts in UTF-32, one behind the other
Hashes = NDArray[np.uint64]

# Thai, kana, Han: no spaces between words.
UNSPACED_SCRIPTS = ((0x0E00, 0x0E7F), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))

# Classes of characters. Those of one of the first three that follow each other are one token.
LETTER, DIGIT, BLANK = 1, 2, 4
RUN = LETTER | DIGIT | BLANK
SINGLE = 8  # a letter or digit of a script without spaces
SPECIAL = 16  # see `_behind_special`
CLASSED = 0x40000  # beyond there are marks only: nothing is assigned that is a word
_LINE_BREAK, _BACKSLASH = ord("\n"), ord("\\")
_LEFT_OUT_BEGIN, _LEFT_OUT_END = 0xFDD0, 0xFDD1

# What a token is as evidence.
NOTHING, SIGN, SHORT_WORD, WORD = range(4)

NONE = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, by the golden ratio
_SHIFT = np.uint64(32)

_CODES = types.Array(types.uint32, 1, "C", readonly=True)
_CLASSES = types.Array(types.uint8, 1, "C", readonly=True)
_INTS = types.int64[::1]


def classes() -> Bytes:
    """Return the classes of characters."""
    characters = np.arange(CLASSED, dtype=np.uint32).view("U1")
    found = np.zeros(CLASSED, dtype=np.uint8)
    found[np.char.isalnum(characters)] = LETTER
    found[np.char.isdecimal(characters)] = DIGIT
    found[np.char.isspace(characters)] = BLANK
    single = np.zeros(RUN + 1, dtype=np.uint8)
    single[LETTER], single[DIGIT] = SINGLE, SINGLE | SPECIAL
    for first, last in UNSPACED_SCRIPTS:
        found[first : last + 1] = single[found[first : last + 1]]
    found[_LINE_BREAK] = 0
    found[[_BACKSLASH, _LEFT_OUT_BEGIN]] = SPECIAL
    found.setflags(write=False)
    return found


@kernel()
def _class(classes: Bytes, code: int) -> int:
    return classes[code] if code < CLASSED else 0


@kernel()
def _behind_special(codes: Codes, at: int, end: int) -> int:
    """Return where the token ends that begins with a special character.

    That is a backslash, which may be a line break that was escaped, or the mark of what was left out of a text.
    """
    behind = at + 1
    if codes[at] == _BACKSLASH:
        escaped = behind < end and (codes[behind] == ord("n") or codes[behind] == ord("r") or codes[behind] == ord("t"))
        return behind + 1 if escaped else behind
    if codes[at] == _LEFT_OUT_BEGIN:
        while behind < end and (ord("0") <= codes[behind] <= ord("9") or ord("a") <= codes[behind] <= ord("f")):
            behind += 1
        return behind + 1 if behind < end and codes[behind] == _LEFT_OUT_END else at + 1
    return behind


@kernel(types.UniTuple(_INTS, 2)(_CODES, _INTS, _CLASSES))
def cut(codes: Codes, text_ends: Ints, classes: Bytes) -> tuple[Ints, Ints]:
    """Return where the tokens of all texts start, with the end of the last one, and how many there are up to each end.

    A token is a word, a number, white space, a line break, a line break that was escaped, a character of a script
    without spaces, a mark of what was left out, or any other mark. Joined, the tokens of a text are the text.
    """
    starts = np.empty(codes.size + 1, dtype=np.int64)
    ends = np.empty(text_ends.size, dtype=np.int64)
    count = at = 0
    for text in range(text_ends.size):
        before = 0  # the class of the character before, if it may go on
        while at < text_ends[text]:
            what = _class(classes, codes[at])
            starts[count] = at  # written again if no token starts here: that is faster than to branch
            if what & SPECIAL:
                if what & SINGLE and before == DIGIT:
                    at += 1  # digits of several scripts are one number
                    continue
                at = _behind_special(codes, at, text_ends[text])
                count += 1
                before = 0
                continue
            count += what != before or not what & RUN
            before = what
            at += 1
        ends[text] = count
    starts[count] = at
    return starts[: count + 1].copy(), ends


@kernel()
def _hashes(codes: Codes, starts: Ints) -> Hashes:
    """Return a hash of each token.

    A loop over a token's characters would have the processor guess each time where it ends. Instead there is one loop
    over all: a token's hash is that of all up to its end without that of all before it.
    """
    count = starts.size - 1
    longest = 0
    for token in range(count):
        longest = max(longest, starts[token + 1] - starts[token])
    powers = np.empty(longest + 1, dtype=np.uint64)
    powers[0] = 1
    for length in range(longest):
        powers[length + 1] = powers[length] * _SPREAD
    sums = np.empty(codes.size + 1, dtype=np.uint64)
    sums[0] = 0
    for at in range(codes.size):
        sums[at + 1] = sums[at] * _SPREAD + np.uint64(codes[at])
    hashes = np.empty(count, dtype=np.uint64)
    for token in range(count):
        start, end = starts[token], starts[token + 1]
        hashes[token] = ((sums[end] - sums[start] * powers[end - start]) * _SPREAD) >> _SHIFT
    return hashes


@kernel()
def _is_same(codes: Codes, starts: Ints, one: int, other: int) -> bool:
    """Tell whether two tokens are the same."""
    first, second = starts[one], starts[other]
    length = starts[one + 1] - first
    same = 0
    if starts[other + 1] - second == length:
        while same < length and codes[first + same] == codes[second + same]:
            same += 1
    return same == length


@kernel()
def _kind(codes: Codes, classes: Bytes, start: int, end: int, short_word_chars: int) -> int:
    """Return what a token is as evidence."""
    what = _class(classes, codes[start])
    if what & (LETTER | DIGIT | SINGLE):
        return WORD if end - start > short_word_chars else SHORT_WORD
    if codes[start] == _LINE_BREAK:
        return WORD
    return NOTHING if what & BLANK else SIGN


@kernel(types.Tuple((_INTS, types.uint8[::1]))(_CODES, _INTS, _CLASSES, types.int64))
def numbered(codes: Codes, starts: Ints, classes: Bytes, short_word_chars: int) -> tuple[Ints, Bytes]:
    """Number tokens in the order in which they first appear; return the numbers, and what each number's token is."""
    hashes = _hashes(codes, starts)
    mask = 1
    while mask < 2 * hashes.size:
        mask = 2 * mask + 1
    table = np.full(mask + 1, NONE, dtype=np.int64)
    numbers, firsts = np.empty(hashes.size, dtype=np.int64), np.empty(hashes.size, dtype=np.int64)
    kinds = np.empty(hashes.size, dtype=np.uint8)
    known = 0
    for token in range(hashes.size):
        slot = np.int64(hashes[token] & np.uint64(mask))
        while table[slot] != NONE and not _is_same(codes, starts, firsts[table[slot]], token):
            slot = (slot + 1) & mask
        if table[slot] == NONE:
            table[slot] = known
            firsts[known] = token
            kinds[known] = _kind(codes, classes, starts[token], starts[token + 1], short_word_chars)
            known += 1
        numbers[token] = table[slot]
    return numbers, kinds[:known].copy()
