"""Strips of texts still to be aligned, and how much evidence a phrase is that all of them hold.

Pure. Finding a word in all texts says little if it is short, if the texts are few or alike, and if they are long
enough to hold it by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from streams.prompts.canonicalization.tokens import Numbered

BITS_OF_WORD = 8.0  # evidence of a word, or of a line break; of a short word and of a mark, half
SHORT_WORD_CHARS = 3
BITS_LEAST = 1.4  # of finding a common word once: it might have stood there never, or twice
BITS_SPARE = 6.0  # evidence beyond what chance explains

Place = list[int]  # one position a text


class Words:
    """Texts to be aligned, and how much each word of the first one is worth as evidence."""

    def __init__(self, numbered: Numbered) -> None:
        self.numbered = numbered
        first = numbered.words[: numbered.ends[0]]
        telling = [word[0].isalnum() or word == "\n" for word in first]
        self.telling = {number for number, tells in zip(numbered.phrases(1), telling, strict=False) if tells}
        self._telling_before = list(accumulate(telling, initial=0))
        bits = {word: _bits_of(word) for word in set(first)}
        self._bits_before = list(accumulate(map(bits.__getitem__, first), initial=0.0))

    def bits(self, start: int, size: int) -> float:
        """Return the evidence of a phrase of the first text, found in one more; marks and blanks alone are none."""
        end = start + size
        if self._telling_before[start] == self._telling_before[end]:
            return 0.0
        return self._bits_before[end] - self._bits_before[start]


def _bits_of(word: str) -> float:
    if word.isspace() and word != "\n":
        return 0.0
    strong = word == "\n" or (len(word) > SHORT_WORD_CHARS and word[0].isalnum())
    return BITS_OF_WORD if strong else BITS_OF_WORD / 2


@dataclass
class Strip:
    """For each text, the range of its tokens still to be aligned."""

    words: Words
    starts: Place
    ends: Place

    @property
    def ranges(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def phrases(self, size: int) -> list[list[int]]:
        """Return the phrases of each text."""
        return [self.words.numbered.phrases_of(size, start, end) for start, end in self.ranges]

    @cached_property
    def different(self) -> int:
        """Return how many different texts the strip holds."""
        return len({self.words.numbered.stretch(start, end) for start, end in self.ranges})

    @cached_property
    def length(self) -> float:
        return (sum(self.ends) - sum(self.starts)) / len(self.starts)

    def is_evident(self, start: int, size: int) -> bool:
        """Tell whether a phrase of the first text, found in all texts, is more than chance."""
        bits = self.words.bits(start, size)
        if bits not in self._evident:
            self._evident[bits] = is_evident(bits, self.different, self.length)
        return self._evident[bits]

    @cached_property
    def _evident(self) -> dict[float, bool]:
        """Whether phrases are evident by their bits: there are few different numbers of them."""
        return {}

    def may_hold(self, size: int) -> bool:
        """Tell whether any phrase of this size could be evident."""
        return is_evident(BITS_OF_WORD * size, len(self.starts), self.length)

    def shares_words(self) -> bool:
        """Tell whether all texts hold a word that makes a phrase evidence at all."""
        shared = self.words.telling
        return all(shared := shared.intersection(text) for text in self.phrases(1))


def is_evident(bits: float, different: int, length: float) -> bool:
    """Tell whether a phrase that stands in all of some different texts is more than chance.

    A phrase of b bits comes up by chance about length / 2^b times in a text: what finding it in one more text says is
    b - log2(length) bits, though never less than that of a coin that shows once what it might have shown twice.
    There are about `length` phrases that might have been found.
    """
    places = math.log2(1 + length)
    return bits > 0 and max(BITS_LEAST, bits - places) * (different - 1) >= places + BITS_SPARE
