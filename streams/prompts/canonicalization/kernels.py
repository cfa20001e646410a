"""The inner loops of looks at the newest members, compiled to machine code.

`drift.py`, `permutation.py` and `evolution.py` give them their meaning.

All sums are of whole numbers, few and small enough for the type they are in, so that no order of adding changes them:
matrices are of at most some hundred things, what they hold is below 2**17.
"""

from __future__ import annotations

import math
import string

import numpy as np
from numpy.typing import NDArray

from streams.compiler import Bytes, Ints, kernel

Whole = NDArray[np.float64]  # holds whole numbers below 2**53 only, so that they may be added in any order
Few = NDArray[np.int16]  # whole numbers whose products add up to less than 2**24

BUCKETS_BITS = 9
BUCKETS = 1 << BUCKETS_BITS  # of character sequences; collisions blur, they do not bias
GOLDEN = 2_654_435_769  # 2**32 by the golden ratio: multiples of it spread evenly
SCALE = 256  # of a profile's length, in whole numbers
MARKS = 8
MARKS_SCALE = 64
MARKS_FLOOR = (MARKS_SCALE // 20 + 1) ** 2  # of their variance: it keeps a mark that hardly varies from shouting

# Kinds of bytes in UTF-8; what no pattern names is `other` or foreign.
OTHER, SPACE, LINE, DIGIT, UPPER, MARK, QUESTION, FOREIGN = range(8)
_KINDS = ("", " \t\r", "\n", string.digits, string.ascii_uppercase, string.punctuation.replace("?", ""), "?", "")
KIND_OF_BYTE = np.array(
    [
        FOREIGN if byte >= 128 else next((kind for kind, characters in enumerate(_KINDS) if chr(byte) in characters), 0)
        for byte in range(256)
    ],
    dtype=np.int64,
)


WORDS_BITS = 10
IN_WORD = np.array([byte < 128 and chr(byte).isalnum() for byte in range(256)])  # of an ASCII text


@kernel()
def _root(square: int) -> int:
    """Return the whole part of a square root."""
    root = int(math.sqrt(square))
    while root * root > square:
        root -= 1
    while (root + 1) * (root + 1) <= square:
        root += 1
    return root


@kernel()
def _normed(alike: Whole) -> Whole:
    """Scale a matrix so that its off-diagonal entries vary by about 1,024; nothing stays on the diagonal."""
    things = alike.shape[0]
    count = things * (things - 1)
    total = squares = 0
    for one in range(things):
        for other in range(things):
            if one != other:
                entry = int(alike[one, other])
                total += entry
                squares += entry * entry
    middle = total // count
    scale = 1024 / max(1, _root(max(0, count * squares - total * total)) // count)
    for one in range(things):
        for other in range(things):
            alike[one, other] = np.rint((alike[one, other] - middle) * scale)
        alike[one, one] = 0
    return alike


@kernel("f8[:,::1](f8[:,::1], i8)")
def alike_by_distance(measures: Whole, floor: int) -> Whole:
    """Return how alike rows are whose columns are measures of their own, each by its variance and at least `floor`."""
    things, count = measures.shape
    scaled = np.empty((things, count))
    for measure in range(count):
        total = squares = 0.0
        for thing in range(things):
            total += measures[thing, measure]
            squares += measures[thing, measure] ** 2
        variance = np.floor((squares * things - total**2) / things**2) + floor
        for thing in range(things):
            scaled[thing, measure] = np.rint(measures[thing, measure] * (64 / math.sqrt(variance)))
    alike = np.empty((things, things))
    for one in range(things):
        for other in range(one + 1):
            distance = 0.0
            for measure in range(count):
                distance += (scaled[one, measure] - scaled[other, measure]) ** 2
            nearness = np.rint((1 << 22) / (64 + np.floor(distance / (64 * count))))
            alike[one, other] = alike[other, one] = nearness
    return _normed(alike)


@kernel()
def _sequences(written: Bytes, ends: Ints) -> Few:
    """Return how often each sequence of two or three characters stands in each value."""
    profiles = np.zeros((ends.size, BUCKETS), dtype=np.int16)
    shift = 32 - BUCKETS_BITS
    start = 0
    for value in range(ends.size):
        end = ends[value]
        for at in range(start, end - 1):
            pair = np.int64(written[at]) * 257 + written[at + 1]
            profiles[value, ((pair * GOLDEN) & 0xFFFFFFFF) >> shift] += 1
            if at + 2 < end:
                triple = np.int64(written[at]) * 65_537 + np.int64(written[at + 1]) * 257 + written[at + 2] + 7
                profiles[value, ((triple * GOLDEN) & 0xFFFFFFFF) >> shift] += 1
        # The square root keeps one frequent sequence from being the whole profile.
        scale = np.float32(SCALE / math.sqrt(2 * (end - start) - 3))
        for bucket in range(BUCKETS):
            profiles[value, bucket] = np.rint(np.sqrt(np.float32(profiles[value, bucket])) * scale)
        start = end
    return profiles


@kernel()
def _products(profiles: Few) -> Whole:
    """Return the products of any two profiles."""
    things = len(profiles)
    products = np.empty((things, things))
    for one in range(things):
        for other in range(one + 1):
            product = np.int32(0)
            for bucket in range(BUCKETS):
                # In 32 bits, of which a processor adds up many at a time.
                product = np.int32(product + np.int32(profiles[one, bucket]) * np.int32(profiles[other, bucket]))
            products[one, other] = products[other, one] = product
    return products


@kernel()
def _marks(written: Bytes, ends: Ints, lengths: Ints) -> Whole:
    """Return the marks of each value: its length, digits, capitals, lines and so on."""
    marks = np.empty((ends.size, MARKS))
    kinds = np.empty(MARKS)
    start = 0
    for value in range(ends.size):
        end = ends[value]
        kinds[:] = 0
        for at in range(start, end):
            kinds[KIND_OF_BYTE[written[at]]] += 1
        chars = float(end - start)
        letters = kinds[OTHER] + kinds[UPPER] + kinds[DIGIT] + kinds[FOREIGN]
        marks[value, 0] = math.log1p(lengths[value]) / 2
        marks[value, 1] = 4 * kinds[DIGIT] / chars
        marks[value, 2] = 4 * kinds[UPPER] / chars
        marks[value, 3] = math.log1p(kinds[LINE])
        marks[value, 4] = 4 * (kinds[MARK] + kinds[QUESTION]) / chars
        marks[value, 5] = letters / (kinds[SPACE] + kinds[LINE]) / 5  # about the length of a word
        marks[value, 6] = kinds[QUESTION] > 0
        marks[value, 7] = kinds[FOREIGN] / chars
        for mark in range(MARKS):
            marks[value, mark] = np.rint(marks[value, mark] * MARKS_SCALE)
        start = end
    return marks


@kernel("f8[:,::1](u1[::1], i8[::1], i8[::1])")
def alike_as_written(written: Bytes, sizes: Ints, lengths: Ints) -> Whole:
    """Return how much any two values are alike by how they are written, with nothing on the diagonal.

    Args:
        written: all values one behind the other in UTF-8, a blank before and behind each.
        sizes: of the values in bytes, without the blanks.
        lengths: of the values in characters, with what was left out of the middle of long ones.
    """
    ends = np.cumsum(sizes + 2)
    alike = _normed(_products(_sequences(written, ends)))
    by_marks = alike_by_distance(_marks(written, ends, lengths), MARKS_FLOOR)
    for one in range(alike.shape[0]):
        for other in range(alike.shape[0]):
            alike[one, other] += by_marks[one, other]
    return alike


@kernel("UniTuple(i8, 3)(f8[:,::1])")
def sums(matrix: Whole) -> tuple[int, int, int]:
    """Return the sums of a matrix's entries, of their squares, and of its rows' sums squared."""
    total = squares = by_row = 0
    for one in range(matrix.shape[0]):
        row = 0
        for other in range(matrix.shape[1]):
            entry = int(matrix[one, other])
            row += entry
            squares += entry * entry
        total += row
        by_row += row * row
    return total, squares, by_row


@kernel("i8(f8[:,::1], f8[::1])")
def dealt(matrix: Whole, hand: Whole) -> int:
    """Return the sum of a matrix's entries, each times the weights of its row and its column."""
    total = 0
    for one in range(matrix.shape[0]):
        row = 0
        for other in range(matrix.shape[1]):
            row += int(matrix[one, other]) * int(hand[other])
        total += row * int(hand[one])
    return total


@kernel("i8(u1[::1])")
def repetitions_at_most(written: Bytes) -> int:
    """Return a number that no word of an ASCII text stands more often in it; mostly that of the most frequent one."""
    times = np.zeros(1 << WORDS_BITS, dtype=np.int64)
    most = word = 0
    for at in range(written.size + 1):
        if at < written.size and IN_WORD[written[at]]:
            word = ((word + written[at]) * GOLDEN) & 0xFFFFFFFF | 1  # never nothing
        elif word:
            # Two words may meet here; then both seem more frequent.
            place = word >> (32 - WORDS_BITS)
            times[place] += 1
            most = max(most, times[place])
            word = 0
    return most
