"""Compiled loops against the same sums written out, as plainly as can be."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest

from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.compiled.kernels import (
    BUCKETS,
    GOLDEN,
    MARKS_FLOOR,
    MARKS_SCALE,
    SCALE,
    Whole,
    alike_by_distance,
    dealt,
    sums,
    sums_as_written,
)
from streams.prompts.canonicalization.drift import _alike_as_written
from tests.canonical import CITIES, TOPICS, dice

KINDS = (r"[ \t\r]", r"\n", r"[0-9]", r"[A-Z]", r"[!-/:->@\[-`{-~]", r"\?")  # blanks, lines, digits, capitals, marks
VALUES = {
    "words": lambda chance: " ".join(chance.choices(TOPICS, k=chance.randrange(1, 9))),
    "numbers": lambda chance: str(chance.randrange(10 ** chance.randrange(1, 12))),
    "few": lambda chance: chance.choice(("", " ", "?", "yes")),
    "all alike": lambda _: "the same",
    "other scripts": lambda chance: chance.choice(("Grüße aus Köln", "日本語の文", "\udcff", CITIES[0])) * 3,
    "lines": lambda chance: "\n".join(chance.choices(CITIES, k=chance.randrange(40))),
    "long": lambda chance: " ".join(chance.choices(TOPICS, k=chance.randrange(20, 90))),
    "around the length that is shown": lambda chance: chance.choice("aé日\udcff") * chance.randrange(396, 405) + "?1",
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("count", [4, 28, 40])
def test_values_are_as_alike_as_the_sums_say(kind: str, count: int) -> None:
    chance = dice(count)
    values = [VALUES[kind](chance) for _ in range(count)]
    sequences = np.array([profile(value) for value in values])
    marks = np.array([marks_of(value) for value in values])
    expected = normed(sequences @ sequences.T) + normed(nearness(marks, MARKS_FLOOR))
    assert np.array_equal(_alike_as_written(values), expected)


def test_what_lies_on_a_line_is_as_alike_as_the_distances_say() -> None:
    measures = np.rint(np.random.default_rng(1).normal(3_000, 500, (40, 1)))
    assert np.array_equal(alike_by_distance(measures, 1), normed(nearness(measures, 1)))


def test_sums_and_deals_are_those_of_the_whole_matrix() -> None:
    chance = np.random.default_rng(2)
    matrix = np.rint(chance.normal(0, 5_000, (40, 40)))
    matrix += matrix.T
    rows = matrix.sum(axis=1)
    hands = np.array([[16.0] * 24 + [-24.0] * 16, [1.0] * 40, [0.0, 3.0] * 20])
    as_it_came = hands[0] @ matrix @ hands[0]
    assert sums(matrix, 24) == (matrix.sum(), (matrix**2).sum(), (rows**2).sum(), as_it_came)
    assert dealt(matrix, hands).tolist() == [hand @ matrix @ hand for hand in hands]


def test_slots_chosen_of_many_are_summed_up_as_each_by_itself() -> None:
    chance = dice(3)
    values = [[VALUES[kind](chance) for _ in range(20)] for kind in VALUES]
    columns, chosen = Columns(values, 12), np.array([5, 0, 4])
    told = np.zeros((3, 4), dtype=np.int64)
    sums_as_written(columns.written, columns.sizes, chosen, 12, told)
    assert told.tolist() == [[*sums(_alike_as_written(values[slot]), 12)] for slot in chosen]


def edges(value: str) -> bytes:
    shown = value if len(value) <= 400 else value[:200] + value[-200:]
    return f" {shown} ".encode("utf-8", "surrogatepass")


def profile(value: str) -> list[int]:
    """Return the root of how often sequences of two and three bytes fall into each bucket, to scale."""
    written = edges(value)
    pairs = (257 * one + other for one, other in pairwise(written))
    triples = (
        65_537 * one + 257 * other + third + 7
        for one, other, third in zip(written, written[1:], written[2:], strict=False)
    )
    held = Counter((number * GOLDEN) % 2**32 * BUCKETS // 2**32 for number in chain(pairs, triples))
    scale = np.float32(SCALE / math.sqrt(2 * len(written) - 3))
    return [round(float(np.sqrt(np.float32(held[bucket])) * scale)) for bucket in range(BUCKETS)]


def marks_of(value: str) -> list[int]:
    written = edges(value)
    ascii_only = "".join(chr(byte) for byte in written if byte < 128)
    space, line, digit, upper, mark, question = (len(re.findall(kind, ascii_only)) for kind in KINDS)
    foreign = sum(byte >= 128 for byte in written)
    chars = len(written)
    marks = [
        math.log1p(len(value)) / 2,
        4 * digit / chars,
        4 * upper / chars,
        math.log1p(line),
        4 * (mark + question) / chars,
        (chars - space - line - mark - question) / (space + line) / 5,
        float(question > 0),
        foreign / chars,
    ]
    return [round(mark * MARKS_SCALE) for mark in marks]


def nearness(measures: Whole, floor: int) -> Whole:
    things, count = measures.shape
    variance = (measures**2).sum(axis=0) * things - measures.sum(axis=0) ** 2
    scaled = np.rint(measures * (64 / np.sqrt(variance // things**2 + floor)))
    squares = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2)
    return np.rint(2**22 / (64 + squares // (64 * count)))


def normed(alike: Whole) -> Whole:
    apart = [int(entry) for entry in alike[~np.eye(len(alike), dtype=bool)]]
    variance = len(apart) * sum(entry**2 for entry in apart) - sum(apart) ** 2
    scale = 1024 / max(1, math.isqrt(variance) // len(apart))
    scaled = np.rint((alike - sum(apart) // len(apart)) * scale)
    np.fill_diagonal(scaled, 0)
    return scaled
