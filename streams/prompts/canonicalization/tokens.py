"""Cut texts into tokens that lose nothing, and number their phrases so that comparing two is comparing two numbers.

Pure. White space and line breaks are tokens; a script without spaces is cut by character. Joined, the tokens of a
text are the text.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate, chain, count

import numpy as np
import xxhash
from numpy.typing import NDArray

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, kana, Han: no spaces between words
TOKEN = re.compile(
    "\ufdd0[0-9a-f]*\ufdd1"  # where the middle of a long text was left out (`without_middle`)
    rf"|[{UNSPACED}]"  # one character of a script without spaces
    rf"|\\[nrt]"  # a line break that was escaped on its way, often glued to the next word
    rf"|[^\W\d_{UNSPACED}]+|\d+"  # a word, a number
    rf"|\n|[^\S\n]+"  # white space, a line break on its own
    rf"|[^\w\s]|_"  # any other mark
)
ASCII_TOKEN = re.compile(r"[A-Za-z]+|[ \t\r\f\v\x1c-\x1f]+|\n|\d+|\\[nrt]|[^\w\s]|_")  # the same, and twice as fast
LEFT_OUT = re.compile("\ufdd0[0-9a-f]*\ufdd1")
LEFT_OUT_BEGIN = "\ufdd0"

TOKENS_MAX = 4_000  # of all texts together: bounds one alignment to some 10 ms
TEXTS_MIN = 6  # that are compared however long they are; of longer ones, the two ends
STRANGER_SHARE_MAX = 0.2  # of texts that may be left out; with more, the texts simply have less in common
STRANGER_LANDMARKS_MIN = 0.7  # share of the phrases most texts hold that a text must hold
STRANGER_PHRASE = 4  # tokens


def tokenize(text: str) -> list[str]:
    """Cut a text into tokens; joined, they are the text."""
    return (ASCII_TOKEN if text.isascii() else TOKEN).findall(text)


def without_middle(text: str, chars_max: int) -> str:
    """Return the two ends of a long text, and between them a mark that no other text holds: no phrase runs across."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return text[:half] + _left_out(text) + text[-half:]


def _left_out(text: str) -> str:
    return f"\ufdd0{xxhash.xxh3_64_hexdigest(text.encode('utf-8', 'surrogatepass'))}\ufdd1"


def affordable(texts: Sequence[list[str]]) -> list[list[str]]:
    """Take fewer texts where all together are too long, from the first to the last in even steps, then their ends."""
    total = sum(map(len, texts))
    if total <= TOKENS_MAX:
        return list(texts)
    count = min(len(texts), max(TEXTS_MIN, len(texts) * TOKENS_MAX // total))
    chosen = [texts[index * (len(texts) - 1) // max(1, count - 1)] for index in range(count)]
    half = TOKENS_MAX // count // 2
    if sum(map(len, chosen)) <= 2 * TOKENS_MAX:
        return chosen
    return [
        words if len(words) <= 2 * half else [*words[:half], _left_out("".join(words)), *words[-half:]]
        for words in chosen
    ]


class Numbered:
    """Texts one behind the other, as words, and as the numbers of the phrase of each size that begins at a word."""

    def __init__(self, texts: Sequence[list[str]]) -> None:
        self.words = list(chain.from_iterable(texts))
        ends = list(accumulate(map(len, texts)))
        self.starts, self.ends = [0, *ends[:-1]], ends
        known: defaultdict[str, int] = defaultdict(count().__next__)
        ids = list(map(known.__getitem__, self.words))
        self._raw = array("q", ids).tobytes()
        # Fewer than 2**15 different words, so four of them make one number of 60 bits.
        self.base = len(known) + 1
        self._arrays: dict[int, NDArray[np.int64]] = {1: np.frombuffer(self._raw, dtype=np.int64)}
        self._lists: dict[int, list[int]] = {1: ids}

    def phrases(self, size: int) -> list[int]:
        """Return for each word the number of the phrase of this size that begins with it (across texts as well)."""
        if size not in self._lists:
            self._lists[size] = self._array(size).tolist()
        return self._lists[size]

    def phrases_of(self, size: int, start: int, end: int) -> list[int]:
        """Return the numbers of the phrases of this size that lie within a stretch."""
        return self.phrases(size)[start : max(start, end - size + 1)]

    def _array(self, size: int) -> NDArray[np.int64]:
        if size not in self._arrays:
            shorter = self._array(size - 1)
            self._arrays[size] = shorter[:-1] * self.base + self._arrays[1][size - 1 :]
        return self._arrays[size]

    def stretch(self, start: int, end: int) -> bytes:
        """Return what stands between two places, to be compared with other stretches."""
        return self._raw[8 * start : 8 * end]


def without_strangers(numbered: Numbered) -> list[int]:
    """Return which texts hold most of what most texts hold; the others are of another template, or version."""
    many = len(numbered.ends)
    everyone = list(range(many))
    if many < 5:
        return everyone
    held = [
        set(numbered.phrases_of(STRANGER_PHRASE, start, end))
        for start, end in zip(numbered.starts, numbered.ends, strict=True)
    ]
    need = math.ceil((1 - STRANGER_SHARE_MAX) * many)
    # What all but a few texts hold, some of the first few hold.
    candidates = set().union(*held[: many - need + 1])
    holders = Counter(chain.from_iterable(map(candidates.intersection, held)))
    common = {phrase for phrase, count in holders.items() if count >= need}
    kept = [index for index in everyone if len(common & held[index]) >= STRANGER_LANDMARKS_MIN * len(common)]
    return kept if len(kept) >= (1 - STRANGER_SHARE_MAX) * many else everyone
