"""Cut texts into tokens that lose nothing, and number their phrases so that comparing two is comparing two numbers.

Pure. White space and line breaks are tokens; a script without spaces is cut by character. Joined, the tokens of a
text are the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

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
LEFT_OUT = re.compile("\ufdd0[0-9a-f]*\ufdd1")

TOKENS_MAX = 4_000  # of all texts together: bounds one alignment to some 10 ms
TEXTS_MIN = 6  # that are compared however long they are; of longer ones, the two ends
STRANGER_SHARE_MAX = 0.2  # of texts that may be left out; with more, the texts simply have less in common
STRANGER_LANDMARKS_MIN = 0.7  # share of the phrases most texts hold that a text must hold
STRANGER_PHRASE = 4  # tokens


def tokenize(text: str) -> list[str]:
    """Cut a text into tokens; joined, they are the text."""
    return TOKEN.findall(text)


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
        self.words = [word for text in texts for word in text]
        ends = list(accumulate(map(len, texts)))
        self.bounds = list(zip([0, *ends], ends, strict=False))
        known: dict[str, int] = {}
        ids = np.array([known.setdefault(word, len(known)) for word in self.words], dtype=np.int64)
        self._raw = ids.tobytes()
        # Fewer than 2**15 different words, so four of them make one number of 60 bits.
        self.base = len(known) + 1
        self._arrays: dict[int, NDArray[np.int64]] = {1: ids}
        self._lists: dict[int, list[int]] = {}

    def phrases(self, size: int) -> list[int]:
        """Return for each word the number of the phrase of this size that begins with it (across texts as well)."""
        if size not in self._lists:
            self._lists[size] = self._array(size).tolist()
        return self._lists[size]

    def _array(self, size: int) -> NDArray[np.int64]:
        if size not in self._arrays:
            shorter = self._array(size - 1)
            self._arrays[size] = shorter[:-1] * self.base + self._arrays[1][size - 1 :]
        return self._arrays[size]

    def stretch(self, start: int, end: int) -> bytes:
        """Return what stands between two places, to be compared with other stretches."""
        return self._raw[8 * start : 8 * end]


def without_strangers(texts: Sequence[list[str]]) -> list[int]:
    """Return which texts hold most of what most texts hold; the others are of another template, or version."""
    everyone = list(range(len(texts)))
    if len(texts) < 5:
        return everyone
    numbered = Numbered(texts)
    phrases = numbered.phrases(STRANGER_PHRASE)
    held = [set(phrases[start : max(start, end - STRANGER_PHRASE + 1)]) for start, end in numbered.bounds]
    holders = Counter(phrase for own in held for phrase in own)
    common = {phrase for phrase, count in holders.items() if count >= (1 - STRANGER_SHARE_MAX) * len(texts)}
    kept = [index for index in everyone if len(common & held[index]) >= STRANGER_LANDMARKS_MIN * len(common)]
    return kept if len(kept) >= (1 - STRANGER_SHARE_MAX) * len(texts) else everyone
