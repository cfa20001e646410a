"""What the offline classifier sees of a text: overlapping windows, and hashed character 4-grams of each.

Rules
  * A text is scored window by window: each paragraph is one, because what a template is filled with mostly
    stands in a paragraph of its own, and the instruction around it would water it down. A short
    paragraph joins its neighbour; a long one is cut into windows that overlap. Nothing is left out.
  * A window is lowered, everything but letters and digits becomes one space, and every run of four
    characters counts. No word list, no language: a text in any script has features.
  * A gram falls into one of BUCKETS by a fixed hash, and weighs 1 + log(count), the whole scaled to unit length.

Changing anything here makes the shipped weights meaningless: train them anew (infra/training/moderation.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WINDOW_CHARS = 1_000  # most of the training texts are shorter
OVERLAP_CHARS = 200  # so that a sentence cut by one window stands whole in the next
PARAGRAPH_CHARS_MIN = 30  # less is a heading or a label, and says too little to be scored alone
GRAM_CHARS = 4
BUCKETS = 16_384

# Odd 64-bit constant of Fibonacci hashing (2^64 / golden ratio), and a shift that brings high bits down.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)

BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
SEPARATORS = re.compile(r"[\W_]+")


def windows(text: str) -> Iterator[str]:
    """Cut a text into windows; a short text is one window."""
    step = WINDOW_CHARS - OVERLAP_CHARS
    for paragraph in _paragraphs(text):
        yield paragraph[:WINDOW_CHARS]
        for start in range(step, len(paragraph) - OVERLAP_CHARS, step):
            yield paragraph[start : start + WINDOW_CHARS]


def grams(window: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the buckets a window fills, ascending, and their weights (a vector of unit length)."""
    normal = f" {SEPARATORS.sub(' ', window.lower()).strip()} "
    codes = np.frombuffer(normal.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    count = len(codes) - GRAM_CHARS + 1
    if count < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    digests = np.zeros(count, dtype=np.uint64)
    for place in range(GRAM_CHARS):
        digests = (digests + codes[place : place + count]) * MULTIPLIER
        digests ^= digests >> SHIFT
    buckets, counts = np.unique(digests % np.uint64(BUCKETS), return_counts=True)
    weights = 1.0 + np.log(counts)
    weights /= np.sqrt((weights * weights).sum())
    return buckets.astype(np.int64), weights.astype(np.float32)


def _paragraphs(text: str) -> Iterator[str]:
    """Cut behind blank lines, where at least PARAGRAPH_CHARS_MIN lie on both sides."""
    start = 0
    for blank in BLANK_LINE.finditer(text):
        if blank.end() - start >= PARAGRAPH_CHARS_MIN and len(text) - blank.end() >= PARAGRAPH_CHARS_MIN:
            yield text[start : blank.end()]
            start = blank.end()
    yield text[start:]
