"""The inner loops of looks at the newest members, compiled to machine code.

`drift.py` and `permutation.py` give them their meaning.

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
EDGE_CHARS = 200  # of a long value, from each end
SHOWN_BYTES_MAX = 2 * 4 * EDGE_CHARS + 2
MARKS = 8
MARKS_SCALE = 64
MARKS_FLOOR = (MARKS_SCALE // 20 + 1) ** 2  # of their variance: it keeps a mark that hardly varies from shouting

# Bytes in UTF-8 are counted by kind, all kinds in one number side by side: a value that is shown is below 2**12 bytes.
BLANK, QUESTION = ord(" "), ord("?")
KIND_BITS = 12
KIND_MAX = (1 << KIND_BITS) - 1
KINDS = (" \t\r", "\n", string.digits, string.ascii_uppercase, string.punctuation)
ONE_OF_KIND = np.array(
    [sum((chr(byte) in kind) << KIND_BITS * number for number, kind in enumerate(KINDS)) for byte in range(256)],
    dtype=np.int64,
)


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
    totals, squares = np.zeros(things), np.zeros(things)
    for one in range(things):
        alike[one, one] = 0
        for other in range(things):
            totals[other] += alike[one, other]
            squares[other] += alike[one, other] ** 2
    total = int(totals.sum())
    middle = total // count
    scale = 1024 / max(1, _root(max(0, count * int(squares.sum()) - total * total)) // count)
    for one in range(things):
        for other in range(things):
            alike[one, other] = np.rint((alike[one, other] - middle) * scale)
        alike[one, one] = 0
    return alike


@kernel("f8[:,::1](f8[:,::1], i8)")
def alike_by_distance(measures: Whole, floor: int) -> Whole:
    """Return how alike rows are whose columns are measures of their own, each by its variance and at least `floor`."""
    things, count = measures.shape
    scaled = np.empty((count, things))
    for measure in range(count):
        total = squares = 0.0
        for thing in range(things):
            total += measures[thing, measure]
            squares += measures[thing, measure] ** 2
        variance = np.floor((squares * things - total**2) / things**2) + floor
        scale = 64 / math.sqrt(variance)
        for thing in range(things):
            scaled[measure, thing] = np.rint(measures[thing, measure] * scale)
    alike = np.empty((things, things))
    distances = np.empty(things)
    for one in range(things):
        distances[:] = 0
        for measure in range(count):
            place = scaled[measure, one]
            for other in range(things):
                distances[other] += (place - scaled[measure, other]) ** 2
        for other in range(things):
            # Not as `/`, which looks for a division by nothing and so keeps a processor from several at a time.
            alike[one, other] = np.rint(np.divide(1 << 22, 64 + np.floor(np.divide(distances[other], 64 * count))))
    return _normed(alike)


@kernel()
def _shown(written: Bytes, start: int, end: int, shown: Bytes) -> tuple[int, int]:
    """Copy a value, of a long one the two ends, with a blank before and behind; return its bytes then, and its length.

    The length is that of the whole value in characters; all but the first byte of one begin with the bits 10.
    """
    chars = 0
    for at in range(start, end):
        chars += (written[at] & 0xC0) != 0x80
    head = tail = end
    if chars > 2 * EDGE_CHARS:
        passed = 0
        for at in range(start, end):
            if (written[at] & 0xC0) != 0x80:
                if passed == EDGE_CHARS:
                    head = at
                elif passed == chars - EDGE_CHARS:
                    tail = at
                passed += 1
    shown[0] = BLANK
    size = 1
    for at in range(start, head):
        shown[size] = written[at]
        size += 1
    for at in range(tail, end):
        shown[size] = written[at]
        size += 1
    shown[size] = BLANK
    return size + 1, chars


@kernel()
def _bucket(number: np.int64) -> np.int64:
    return (number * GOLDEN & 0xFFFFFFFF) >> (32 - BUCKETS_BITS)


@kernel()
def _sequences(shown: Bytes, size: int, profile: Few) -> None:
    """Write how often each sequence of two or three characters stands in a value."""
    profile[:] = 0
    one, two = np.int64(shown[0]), np.int64(shown[1])
    for at in range(2, size):
        three = np.int64(shown[at])
        profile[_bucket(one * 257 + two)] += 1
        profile[_bucket(one * 65_537 + two * 257 + three + 7)] += 1
        one, two = two, three
    profile[_bucket(one * 257 + two)] += 1
    # The square root keeps one frequent sequence from being the whole profile.
    scale = np.float32(SCALE / math.sqrt(2 * size - 3))
    for bucket in range(BUCKETS):
        profile[bucket] = np.rint(np.sqrt(np.float32(profile[bucket])) * scale)


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
def _marks(shown: Bytes, size: int, length: int, marks: Whole) -> None:
    """Write the marks of a value: its length, digits, capitals, lines and so on."""
    counts = 0
    for at in range(size):
        counts += ONE_OF_KIND[shown[at]]
    space, line, digit = counts & KIND_MAX, counts >> KIND_BITS & KIND_MAX, counts >> 2 * KIND_BITS & KIND_MAX
    upper, mark = counts >> 3 * KIND_BITS & KIND_MAX, counts >> 4 * KIND_BITS & KIND_MAX
    questions = foreign = 0
    for at in range(size):
        questions += shown[at] == QUESTION
        foreign += shown[at] >= 128
    marks[0] = math.log1p(length) / 2
    marks[1] = 4 * digit / size
    marks[2] = 4 * upper / size
    marks[3] = math.log1p(line)
    marks[4] = 4 * mark / size
    marks[5] = (size - space - line - mark) / (space + line) / 5  # about the length of a word
    marks[6] = questions > 0
    marks[7] = foreign / size
    for number in range(MARKS):
        marks[number] = np.rint(marks[number] * MARKS_SCALE)


@kernel("f8[:,::1](u1[::1], i8[::1])")
def alike_as_written(written: Bytes, sizes: Ints) -> Whole:
    """Return how much any two values are alike by how they are written, with nothing on the diagonal.

    Args:
        written: all values one behind the other in UTF-8.
        sizes: of the values in bytes.
    """
    things = sizes.size
    profiles = np.empty((things, BUCKETS), dtype=np.int16)
    marks = np.empty((things, MARKS))
    shown = np.empty(SHOWN_BYTES_MAX, dtype=np.uint8)
    start = 0
    for thing in range(things):
        end = start + sizes[thing]
        size, length = _shown(written, start, end, shown)
        _sequences(shown, size, profiles[thing])
        _marks(shown, size, length, marks[thing])
        start = end
    alike = _normed(_products(profiles))
    by_marks = alike_by_distance(marks, MARKS_FLOOR)
    for one in range(things):
        for other in range(things):
            alike[one, other] += by_marks[one, other]
    return alike


@kernel("UniTuple(i8, 4)(f8[:,::1], i8)")
def sums(matrix: Whole, split: int) -> tuple[int, int, int, int]:
    """Return the sums of a symmetric matrix: of its entries, their squares, its rows' sums squared, and of the deal.

    In the deal each entry counts as often as the weights of its row and its column say: before `split` the number of
    things from there on, from there on less the number of those before.
    """
    things = matrix.shape[0]
    first, rest, squares = np.zeros(things), np.zeros(things), np.zeros(things)
    for one in range(things):
        part = first if one < split else rest
        for other in range(things):
            part[other] += matrix[one, other]
            squares[other] += matrix[one, other] ** 2
    by_row = dealt_so = 0
    for other in range(things):
        by_row += int(first[other] + rest[other]) ** 2
        weight = things - split if other < split else -split
        dealt_so += weight * ((things - split) * int(first[other]) - split * int(rest[other]))
    return int(first.sum() + rest.sum()), int(squares.sum()), by_row, dealt_so


@kernel("f8[::1](f8[:,::1], f8[:,::1])")
def dealt(matrix: Whole, hands: Whole) -> Whole:
    """Return for each deal the sum of a matrix's entries, each times the weights of its row and its column."""
    things = matrix.shape[0]
    totals = np.zeros(len(hands))
    drawn = np.empty(things)
    for deal in range(len(hands)):
        drawn[:] = 0
        for one in range(things):
            for other in range(things):
                drawn[other] += matrix[one, other] * hands[deal, one]
        for other in range(things):
            totals[deal] += drawn[other] * hands[deal, other]
    return totals


@kernel("void(u1[::1], i8[:,::1], i8[::1], i8, i8[:,::1])")
def sums_as_written(written: Bytes, sizes: Ints, chosen: Ints, split: int, told: Ints) -> None:
    """Write for each chosen slot the `sums` of how alike its values are as written.

    Args:
        written: the values of all slots one behind the other in UTF-8.
        sizes: of the values in bytes, a row for each slot.
    """
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    for slot in range(len(sizes)):
        starts[slot + 1] = starts[slot] + sizes[slot].sum()
    for place in range(chosen.size):
        slot = chosen[place]
        alike = alike_as_written(written[starts[slot] : starts[slot + 1]], sizes[slot])
        told[place, 0], told[place, 1], told[place, 2], told[place, 3] = sums(alike, split)
