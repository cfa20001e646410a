"""What a prompt looks like to the structural gate: the set of its word shingles.

A shingle is a hash of three neighbouring tokens; the first and the last of a prompt carry a mark, because a
template's ends are its most reliable constants. Shingles that occur twice in a prompt are left out: `<br />` in a
review or `self.` in code would otherwise pass for constants. Scripts written without spaces give a token per
character. Hashes are stable (of code points, integers throughout), so they may be stored.

Beside a word, every number is the same token: order 17 and order 18 are one wording. Among mere numbers and marks a
number keeps its digits: dates, tables and the heads of a diff are values, and that they are written alike says nothing
about the template around them.

Intuition: fill one template twice and lay the two shingle sets over each other. What both hold is the template; what
one holds alone is a slot value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streams.compiler import Bytes, Ints
from streams.prompts.clustering.compiled import layout, texts
from streams.prompts.clustering.shingles import Shingles

# A longer text is sketched by its two ends: templates put their constants around a long slot, and tokenising
# 256 KiB would take 20 ms of a partition's time.
SKETCHED_CHARS_MAX = 16_384
# Dense scripts give a token per character; 2,048 shingles are 16 KiB.
SHINGLES_MAX = 2_048
# Repairs read the same few texts again and again. Their places are kept unless a text is long: 16 MB at the very most.
LOCATED_TEXTS_MAX = 256
LOCATED_CHARS_MAX = 2_048

_CLASSES = texts.classes()
_KINDS = layout.characters((_CLASSES & texts.WORD) > 0, (_CLASSES & texts.DECIMAL) > 0)
_GAP = "\0"  # a mark that stands for the middle left out of a long prompt


class Sketch(NamedTuple):
    """The shingles of a prompt, in text order and as a set."""

    order: Ints
    shingles: Shingles


class Places(NamedTuple):
    """Where the tokens of a text start and end, the shingle that each is the middle of, and what it is.

    What a token is, is told by bits (`compiled.layout`). Few are ever read: their strings are cut out when asked for.
    """

    text: str
    starts: Ints
    ends: Ints
    shingles: Ints
    kinds: Bytes

    def tokens(self, first: int, end: int) -> list[str]:
        spans = zip(self.starts[first:end].tolist(), self.ends[first:end].tolist(), strict=True)
        return [self.text[start:stop] for start, stop in spans]


def sketches(of: Sequence[str]) -> list[Sketch]:
    """Return the sketches of prompts' texts."""
    looked_at = list(map(_looked_at, of))
    ends = np.cumsum(list(map(len, looked_at)))
    order, ascending, counts = texts.sketched(_codes("".join(looked_at)), ends, _CLASSES, SHINGLES_MAX)
    found = []
    start = 0
    for end in np.cumsum(counts).tolist():
        # Copies: a part would keep the whole alive.
        found.append(Sketch(order[start:end].copy(), Shingles(ascending[start:end].copy())))
        start = end
    return found


def located(text: str) -> Places:
    """Return where the tokens of a text stand, each with the shingle it is the middle of."""
    return _locate(text) if len(text) > LOCATED_CHARS_MAX else _located(text)


def _locate(text: str) -> Places:
    looked_at = _looked_at(text)
    codes = _codes(looked_at)
    starts, ends, shingles = texts.located(codes, _CLASSES)
    return Places(looked_at, starts, ends, shingles, layout.kinds(codes, starts, ends, _KINDS))


_located = lru_cache(LOCATED_TEXTS_MAX)(_locate)


def _looked_at(text: str) -> str:
    """Return a text in lower case, of a long one its two ends."""
    if len(text) > SKETCHED_CHARS_MAX:
        half = SKETCHED_CHARS_MAX // 2
        text = f"{text[:half]}{_GAP}{text[-half:]}"
    return text.lower()


def _codes(text: str) -> texts.Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
