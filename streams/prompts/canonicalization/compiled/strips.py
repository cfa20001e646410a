"""What the texts of a strip have in common. `alignment.py` of the room says what for.

A *place* is where something begins in each text, a number a text; a *strip* is a pair of places, a row each: where what
is still to be aligned starts in each text, and where it ends. A phrase is known by where it first stands in the first
text (`phrases.py`).
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from streams.compiler import Bytes, Ints, kernel

NONE = -1
START, END = 0, 1  # rows of a strip
NOTHING, SIGN, SHORT_WORD, WORD = range(4)  # what a token is as evidence (`tokens.py`)

_SPREAD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_INTS, _ROWS, _BYTES = types.int64[::1], types.int64[:, ::1], types.uint8[::1]


@kernel(types.int64(_INTS, _BYTES, types.int64, types.int64))
def worth(words: Ints, kinds: Bytes, start: int, size: int) -> int:
    """Return the evidence of a phrase, in halves of a word's; marks and blanks alone are none."""
    worth = 0
    telling = False
    for at in range(start, start + size):
        kind = kinds[words[at]]
        worth += (kind != NOTHING) + (kind == WORD)
        telling |= kind >= SHORT_WORD
    return worth if telling else 0


@kernel()
def _order(words: Ints, one: int, other: int, size: int) -> int:
    """Return a number below, equal to or above 0, as one phrase comes before, is or comes behind another."""
    for at in range(size):
        if words[one + at] != words[other + at]:
            return words[one + at] - words[other + at]
    return 0


@kernel(types.UniTuple(types.int64, 3)(_INTS, _ROWS))
def edges(words: Ints, strip: Ints) -> tuple[int, int, int]:
    """Return how many tokens all texts share at the start of a strip, how many more at its end, and what is left.

    The latter is of the shortest text.
    """
    most = words.size
    for text in range(strip.shape[1]):
        most = min(most, strip[END, text] - strip[START, text])
    head = most
    for text in range(1, strip.shape[1]):
        same = 0
        while same < head and words[strip[START, 0] + same] == words[strip[START, text] + same]:
            same += 1
        head = same
    tail = most - head
    for text in range(1, strip.shape[1]):
        same = 0
        while same < tail and words[strip[END, 0] - 1 - same] == words[strip[END, text] - 1 - same]:
            same += 1
        tail = same
    return head, tail, most - head - tail


@kernel()
def _hash(words: Ints, start: int, end: int) -> np.uint64:
    mixed = np.uint64(0)
    for at in range(start, end):
        mixed = (mixed ^ np.uint64(words[at])) * _SPREAD
        mixed ^= mixed >> _SHIFT
    return mixed


@kernel()
def _different(words: Ints, strip: Ints) -> int:
    """Return how many different texts a strip holds."""
    many = strip.shape[1]
    size = 2
    while size < 2 * many:
        size <<= 1
    table = np.full(size, NONE, dtype=np.int64)
    found = 0
    for text in range(many):
        start, end = strip[START, text], strip[END, text]
        slot = np.int64(_hash(words, start, end) & np.uint64(size - 1))
        while table[slot] != NONE:
            like = table[slot]
            same_length = strip[END, like] - strip[START, like] == end - start
            if same_length and _order(words, strip[START, like], start, end - start) == 0:
                break
            slot = (slot + 1) & (size - 1)
        if table[slot] == NONE:
            table[slot] = text
            found += 1
    return found


@kernel()
def _held(words: Ints, kinds: Bytes, numbers: Ints, strip: Ints, size: int, worth_min: int) -> tuple[Ints, Ints, Ints]:
    """Return the phrases of the first text in a strip that are worth enough, how often each text has them, where first.

    There is a row for each text.
    """
    end = strip[END, 0] - size + 1
    listed = np.full(max(0, end), NONE, dtype=np.int64)
    phrases = np.empty(listed.size, dtype=np.int64)
    many = 0
    for at in range(strip[START, 0], end):
        phrase = numbers[size, at]
        if phrase != NONE and listed[phrase] == NONE and worth(words, kinds, at, size) >= worth_min:
            listed[phrase] = many
            phrases[many] = phrase
            many += 1
    times = np.zeros((strip.shape[1], many), dtype=np.int64)
    firsts = np.full((strip.shape[1], many), NONE, dtype=np.int64)
    for text in range(strip.shape[1] if many else 0):
        for at in range(strip[START, text], strip[END, text] - size + 1):
            phrase = numbers[size, at]
            if phrase == NONE or phrase >= listed.size or listed[phrase] == NONE:
                continue
            place = listed[phrase]
            if times[text, place] == 0:
                firsts[text, place] = at
            times[text, place] += 1
    return phrases[:many].copy(), times, firsts


@kernel(types.int64(_INTS, _BYTES, _ROWS, _ROWS))
def different(words: Ints, kinds: Bytes, numbers: Ints, strip: Ints) -> int:
    """Return how many different texts a strip holds; 0 if they share no word that makes a phrase evidence at all."""
    times = _held(words, kinds, numbers, strip, 1, 1)[1]
    for number in range(times.shape[1]):
        text = 0
        while text < times.shape[0] and times[text, number]:
            text += 1
        if text == times.shape[0]:
            return _different(words, strip)
    return 0


@kernel()
def _candidates(times: Ints, share_min: float) -> Bytes:
    """Return which phrases of all texts stand once in each; if none does, which stand once in nearly every one."""
    texts, many = times.shape
    once = np.zeros(many, dtype=np.int64)
    most = 0
    for number in range(many):
        for text in range(texts):
            if times[text, number] == 0:
                once[number] = 0
                break
            once[number] += times[text, number] == 1
        most = max(most, once[number])
    need = texts if most == texts else max(2, math.ceil(share_min * texts))
    candidates = np.zeros(many, dtype=np.uint8)
    for number in range(many):
        candidates[number] = once[number] >= need
    return candidates


@kernel()
def _led(candidates: Bytes, times: Ints, firsts: Ints) -> Ints:
    """Return the candidates that stand once in the text in which most do, in its order; of equals the earlier text."""
    lead = most = 0
    for text in range(times.shape[0]):
        once = 0
        for number in range(candidates.size):
            once += candidates[number] and times[text, number] == 1
        if once > most:
            lead, most = text, once
    ordered = np.empty(most, dtype=np.int64)
    count = 0
    for number in range(candidates.size if most else 0):
        if candidates[number] and times[lead, number] == 1:
            at = count
            while at and firsts[lead, ordered[at - 1]] > firsts[lead, number]:
                ordered[at] = ordered[at - 1]
                at -= 1
            ordered[at] = number
            count += 1
    return ordered


@kernel()
def _support(ordered: Ints, times: Ints, firsts: Ints) -> Ints:
    """Return in how many texts each phrase stands once, and in order: on a longest rising subsequence of their places.

    Of several, on the one that ends first; before its last place it takes the newest that is not beyond the next.
    """
    support = np.zeros(times.shape[1], dtype=np.int64)
    tails, back = np.empty(ordered.size, dtype=np.int64), np.empty(ordered.size, dtype=np.int64)
    for text in range(times.shape[0]):
        longest = 0
        for index in range(ordered.size):
            if times[text, ordered[index]] != 1:
                continue
            place = firsts[text, ordered[index]]
            low, high = 0, longest
            if longest and firsts[text, ordered[tails[longest - 1]]] < place:
                low = longest  # as mostly
            while low < high:
                middle = (low + high) // 2
                if firsts[text, ordered[tails[middle]]] < place:
                    low = middle + 1
                else:
                    high = middle
            back[index] = tails[low - 1] if low else NONE
            tails[low] = index
            longest = max(longest, low + 1)
        index = tails[longest - 1] if longest else NONE
        while index != NONE:
            support[ordered[index]] += 1
            index = back[index]
    return support


@kernel()
def _place(numbers: Ints, phrase: int, strip: Ints, firsts: Ints, size: int, at: Ints, place: Ints) -> bool:
    """Find where a phrase first stands behind `at` in every text; tell whether it does."""
    for text in range(at.size):
        found = max(firsts[text], at[text])
        while found <= strip[END, text] - size and numbers[size, found] != phrase:
            found += 1
        if found > strip[END, text] - size:
            return False
        place[text] = found
    return True


@kernel(_ROWS(_INTS, _BYTES, _ROWS, _ROWS, types.int64, types.int64, types.float64))
def landmarks(
    words: Ints, kinds: Bytes, numbers: Ints, strip: Ints, size: int, worth_min: int, share_min: float
) -> Ints:
    """Return landmarks of a strip that do not overlap, in order, each as its place in every text.

    Args:
        words: of all texts, one behind the other.
        kinds: what each word is as evidence.
        numbers: for each size and place of all texts the phrase that begins there.
        strip: what is still to be aligned.
        size: of the landmarks, in words.
        worth_min: evidence that makes a landmark more than chance, in halves of a word's.
        share_min: of the texts in which a landmark stands once and in order.
    """
    phrases, times, firsts = _held(words, kinds, numbers, strip, size, worth_min)
    ordered = _led(_candidates(times, share_min), times, firsts)
    found = np.empty((ordered.size, strip.shape[1]), dtype=np.int64)
    at = strip[START].copy()
    support = _support(ordered, times, firsts)
    count = 0
    for number in ordered:
        enough = support[number] >= share_min * strip.shape[1]
        if enough and _place(numbers, phrases[number], strip, firsts[:, number], size, at, found[count]):
            for text in range(at.size):
                at[text] = found[count, text] + size
            count += 1
    return found[:count].copy()


@kernel(_ROWS(_INTS, _BYTES, _ROWS, _ROWS, types.int64, types.int64))
def series(words: Ints, kinds: Bytes, numbers: Ints, strip: Ints, size: int, worth_min: int) -> Ints:
    """Return all places of the phrase that every text repeats equally often, and most often; no word is twice in it."""
    phrases, times, _ = _held(words, kinds, numbers, strip, size, worth_min)
    most, repeats = NONE, 1
    for number in range(phrases.size):
        phrase, often = phrases[number], times[0, number]
        fits = often > 1
        for text in range(1, times.shape[0]):
            fits &= times[text, number] == often
        for one in range(phrase, phrase + size):
            for other in range(phrase, one):
                fits &= words[one] != words[other]
        if fits and (often > repeats or (often == repeats and _order(words, phrase, most, size) < 0)):
            most, repeats = phrase, often
    found = np.empty((repeats if most != NONE else 0, strip.shape[1]), dtype=np.int64)
    for text in range(strip.shape[1] if most != NONE else 0):
        count = 0
        for at in range(strip[START, text], strip[END, text] - size + 1):
            if numbers[size, at] == most:
                found[count, text] = at
                count += 1
    return found
