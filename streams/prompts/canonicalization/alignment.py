"""Find what texts filled from one template have in common, and where.

Pure. A *run* is a stretch of tokens (`tokens.py`) that every text holds, in the same order; what lies between two
runs differs from text to text.

Intuition: lay the texts side by side and look for landmarks, phrases that stand exactly once in (nearly) every
one of them. Long phrases are sure landmarks, so they are placed first; they cut the problem into strips, and in
each strip shorter phrases may become landmarks in their turn. A phrase that stands twice in a text is no
landmark, which keeps the common words of long slot values from being taken for constants.

Rules
  1. A text that lacks many landmarks all others hold is a stranger (of another template, or version): it is left out.
  2. Phrases that stand once in all texts go first; what a slot value quotes may then be clear in a narrower strip.
  3. Next to a landmark, equal tokens extend it, as far as all texts agree.
  4. A landmark needs evidence: the shorter it is, and the fewer *different* texts surround it, the likelier it
     stands there by chance (`strips.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streams.compiler import Ints
from streams.prompts.canonicalization.strips import Strip, Words, is_evident
from streams.prompts.canonicalization.tokens import Numbered

LANDMARK_SIZES = (4, 2, 1)  # lengths of landmarks, surest first
SERIES_SIZES = (3, 2, 1)  # lengths of phrases that stand equally often in every text: the marks of a list
LEVELS = len(LANDMARK_SIZES) + len(SERIES_SIZES)
NEAR_TOKENS = 20  # beside a run, by which texts are told apart there


@dataclass(frozen=True, slots=True)
class Alignment:
    """What texts share: the runs in order, and whether all texts start with the first and end with the last one."""

    runs: tuple[str, ...]
    starts_with_run: bool
    ends_with_run: bool


Place = list[int]  # one position a text
Run = tuple[Place, int]  # where it begins in each text, and its length


def align(numbered: Numbered) -> Alignment:
    """Return the runs all texts share."""
    if not numbered.words.size:
        return Alignment((), starts_with_run=False, ends_with_run=False)
    words = Words(numbered)
    first, last = words.bounds.tolist()
    runs = _joined(_place(words))
    starts = bool(runs) and runs[0][0] == first
    ends = bool(runs) and _behind(runs[-1]) == last
    runs = _without_accidents(runs, words, starts=starts, ends=ends)
    shown = (numbered.shown(place[0], place[0] + length) for place, length in runs)
    return Alignment(tuple(shown), starts, ends)


def _behind(run: Run) -> Place:
    """Return where a run ends in each text."""
    place, length = run
    return [at + length for at in place]


def _joined(runs: list[Run]) -> list[Run]:
    """Put runs in order and join those that touch in all texts."""
    joined: list[Run] = []
    for place, length in sorted(runs):
        if joined and _behind(joined[-1]) == place:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((place, length))
    return joined


def _without_accidents(runs: list[Run], words: Words, *, starts: bool, ends: bool) -> list[Run]:
    """Drop runs for which what lies beside them gives too little evidence: few documents, met in many prompts."""
    kept = list(runs)
    first, last = words.bounds.tolist()
    number = int(starts)
    while number < len(kept) - int(ends):
        place, length = kept[number]
        lefts = _behind(kept[number - 1]) if number else first
        rights = kept[number + 1][0] if number + 1 < len(kept) else last
        bits = words.bits(place[0], length)
        beside = (sum(rights) - sum(lefts) - length * len(first)) / len(first)
        if bits and not is_evident(bits, 2, beside):
            different = {
                (
                    words.stretch(max(left, at - NEAR_TOKENS), at),
                    words.stretch(at + length, min(right, at + length + NEAR_TOKENS)),
                )
                for left, at, right in zip(lefts, place, rights, strict=True)
            }
            if not is_evident(bits, len(different), beside):
                del kept[number]
                number = max(int(starts), number - 1)
                continue
        number += 1
    return kept


def _place(words: Words) -> list[Run]:
    """Return the runs of all shared tokens, in no order; runs may touch."""
    placed: list[Run] = []
    work = [(words.bounds, 0)]
    while work:
        bounds, level = work.pop()
        inner = _strip_edges(words, bounds, placed)
        if inner is None:
            continue
        strip = Strip(words, inner)
        if not strip.different:
            continue
        while level < LEVELS:
            size = (LANDMARK_SIZES + SERIES_SIZES)[level]
            found = strip.landmarks(size) if level < len(LANDMARK_SIZES) else strip.series(size)
            if found:
                placed += [(place, size) for place in found]
                work += [(between, level) for between in _between(inner, found, size)]
                break
            level += 1
    return placed


def _strip_edges(words: Words, bounds: Ints, placed: list[Run]) -> Ints | None:
    """Take the tokens all texts share at both ends of a strip; return what is left, None if it is nothing of some."""
    head, tail, left = words.edges(bounds)
    if not head and not tail:
        return bounds if left else None
    starts, ends = bounds
    if head:
        placed.append((starts.tolist(), head))
    if tail:
        placed.append(((ends - tail).tolist(), tail))
    return np.array((starts + head, ends - tail)) if left else None


def _between(bounds: Ints, found: list[Place], size: int) -> list[Ints]:
    """Return the strips between landmarks."""
    starts, ends = bounds.tolist()
    behind = [[at + size for at in place] for place in found]
    return [np.array(strip) for strip in zip([starts, *behind], [*found, ends], strict=True)]
