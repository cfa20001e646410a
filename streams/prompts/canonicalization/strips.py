"""Strips of texts still to be aligned, and how much evidence a phrase is that all of them hold.

Pure. Finding a word in all texts says little if it is short, if the texts are few or alike, and if they are long
enough to hold it by chance. The loops are machine code (`compiled/strips.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streams.compiler import Bytes, Ints
from streams.prompts.canonicalization.compiled import phrases, strips
from streams.prompts.canonicalization.tokens import Numbered

BITS_OF_WORD = 8.0  # evidence of a word, or of a line break; of a short word and of a mark, half
BITS_LEAST = 1.4  # of finding a common word once: it might have stood there never, or twice
BITS_SPARE = 6.0  # evidence beyond what chance explains
SERIES_TEXTS_MIN = 8  # different texts from which an equal number of repetitions is no accident
UNIQUE_SHARE_MIN = 0.7  # of texts in which a landmark stands once; in the others a slot value quotes it


class Words:
    """Texts to be aligned, as numbers of their words."""

    def __init__(self, numbered: Numbered) -> None:
        self.words, self.kinds = numbered.words, numbered.kinds
        self.bounds = np.array((numbered.starts, numbered.ends))
        self._phrases: Ints | None = None
        self._raw = numbered.words.tobytes()

    def edges(self, bounds: Ints) -> tuple[int, int, int]:
        """Return how many tokens texts share at both ends of a range of each, and how many the shortest has besides."""
        return strips.edges(self.words, bounds)

    def phrases(self, within: Ints) -> Ints:
        """Return which phrases that all texts share begin where; all ranges asked for lie within the first one."""
        if self._phrases is None:
            self._phrases = phrases.shared(self.words, within)
        return self._phrases

    def bits(self, start: int, size: int) -> float:
        """Return the evidence of a phrase of the first text, found in one more; marks and blanks alone are none."""
        return strips.worth(self.words, self.kinds, start, size) * BITS_OF_WORD / 2

    def stretch(self, start: int, end: int) -> bytes:
        """Return what stands between two places, to be compared with other stretches."""
        return self._raw[8 * start : 8 * end]


@dataclass
class Strip:
    """For each text, the range of its tokens still to be aligned."""

    words: Words
    bounds: Ints  # where it starts in each text, and where it ends, a row each

    @cached_property
    def different(self) -> int:
        """Return how many different texts the strip holds; 0 if they share no word that is any evidence."""
        return strips.different(*self._texts)

    @cached_property
    def length(self) -> float:
        """Return how long the strip is in a text, on average."""
        starts, ends = self.bounds.tolist()
        return float((sum(ends) - sum(starts)) / len(starts))

    def landmarks(self, size: int) -> list[list[int]]:
        """Return landmarks of a size that do not overlap, in order, each as its place in every text."""
        worth_min = self._worth_min(size)
        if worth_min is None:
            return []
        return strips.landmarks(*self._texts, size, worth_min, UNIQUE_SHARE_MIN).tolist()  # type: ignore[no-any-return]

    def series(self, size: int) -> list[list[int]]:
        """Return all places of a phrase that every text repeats equally often: `- a, - b` holds a series of dashes."""
        worth_min = self._worth_min(size) if self.different >= SERIES_TEXTS_MIN else None
        if worth_min is None:
            return []
        return strips.series(*self._texts, size, worth_min).tolist()  # type: ignore[no-any-return]

    @property
    def _texts(self) -> tuple[Ints, Bytes, Ints, Ints]:
        return self.words.words, self.words.kinds, self.words.phrases(self.bounds), self.bounds

    def _worth_min(self, size: int) -> int | None:
        """Return from what evidence on, in halves of a word's, a phrase that all texts hold is more than chance.

        None if no phrase of this size is, or if there are none.
        """
        different, length = self.different, self.length
        if size >= len(self.words.phrases(self.bounds)) or not is_evident(BITS_OF_WORD * size, different, length):
            return None
        worths = range(1, 2 * size + 1)
        return next(worth for worth in worths if is_evident(worth * BITS_OF_WORD / 2, different, length))


def is_evident(bits: float, different: int, length: float) -> bool:
    """Tell whether a phrase that stands in all of some different texts is more than chance.

    A phrase of b bits comes up by chance about length / 2^b times in a text: what finding it in one more text says is
    b - log2(length) bits, though never less than that of a coin that shows once what it might have shown twice.
    There are about `length` phrases that might have been found.
    """
    places = math.log2(1 + length)
    return bits > 0 and max(BITS_LEAST, bits - places) * (different - 1) >= places + BITS_SPARE
