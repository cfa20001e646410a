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

from streams.compiler import Ints
from streams.prompts.clustering.compiled import texts
from streams.prompts.clustering.shingles import Shingles

# A longer text is sketched by its two ends: templates put their constants around a long slot, and tokenising
# 256 KiB would take 20 ms of a partition's time.
SKETCHED_CHARS_MAX = 16_384
# Dense scripts give a token per character; 2,048 shingles are 16 KiB.
SHINGLES_MAX = 2_048
# Repairs read the same few texts again and again. Their places are kept unless a text is long: 60 MB at the very most.
LOCATED_TEXTS_MAX = 256
LOCATED_CHARS_MAX = 2_048

_CLASSES = texts.classes()
_GAP = "\0"  # a mark that stands for the middle left out of a long prompt


class Sketch(NamedTuple):
    """The shingles of a prompt, in text order and as a set."""

    order: Ints
    shingles: Shingles


class Places(NamedTuple):
    """The tokens of a text, and of each the shingle it is the middle of."""

    tokens: tuple[str, ...]
    shingles: Ints


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
    """Return the tokens of a text, each with the shingle it is the middle of."""
    return _locate(text) if len(text) > LOCATED_CHARS_MAX else _located(text)


def _locate(text: str) -> Places:
    looked_at = _looked_at(text)
    starts, ends, shingles = texts.located(_codes(looked_at), _CLASSES)
    found = tuple(looked_at[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))
    return Places(found, shingles)


_located = lru_cache(LOCATED_TEXTS_MAX)(_locate)


def _looked_at(text: str) -> str:
    """Return a text in lower case, of a long one its two ends."""
    if len(text) > SKETCHED_CHARS_MAX:
        half = SKETCHED_CHARS_MAX // 2
        text = f"{text[:half]}{_GAP}{text[-half:]}"
    return text.lower()


def _codes(text: str) -> texts.Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
