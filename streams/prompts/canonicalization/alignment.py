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
     stands there by chance (`_is_evident`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streams.prompts.canonicalization.tokens import Numbered, affordable

GRAM_SIZES = (4, 2, 1)  # lengths of landmarks, surest first
SERIES_SIZES = (3, 2, 1)  # lengths of phrases that stand equally often in every text: the marks of a list
LEVELS = len(GRAM_SIZES) + len(SERIES_SIZES)
SERIES_TEXTS_MIN = 8  # different texts from which an equal number of repetitions is no accident
NEAR_TOKENS = 20  # beside a run, by which texts are told apart there
UNIQUE_SHARE_MIN = 0.7  # of texts in which a landmark stands once; in the others a slot value quotes it
BITS_OF_WORD = 8.0  # evidence of a word, or of a line break; of a short word and of a mark, half
SHORT_WORD_CHARS = 3
BITS_LEAST = 1.4  # of finding a common word once: it might have stood there never, or twice
BITS_SPARE = 6.0  # evidence beyond what chance explains


@dataclass(frozen=True, slots=True)
class Alignment:
    """What texts share: the runs in order, and whether all texts start with the first and end with the last one."""

    runs: tuple[str, ...]
    starts_with_run: bool
    ends_with_run: bool


Place = list[int]  # one position a text
Run = tuple[Place, int]  # where it begins in each text, and its length
Known = dict[int, int]  # where phrases stand in a text: their first places, or their last ones
Strip = list[tuple[int, int]]  # for each text, the range of its tokens still to be aligned


def align(texts: Sequence[list[str]]) -> Alignment:
    """Return the runs all texts share; where they are too many or too long, all that were compared."""
    numbered = Numbered(affordable(texts))
    runs = _joined(_place(numbered))
    starts = bool(runs) and runs[0][0] == [start for start, _ in numbered.bounds]
    ends = bool(runs) and [at + runs[-1][1] for at in runs[-1][0]] == [end for _, end in numbered.bounds]
    runs = _without_accidents(runs, numbered, starts=starts, ends=ends)
    shown = ("".join(numbered.words[place[0] : place[0] + length]) for place, length in runs)
    return Alignment(tuple(shown), starts, ends)


def _joined(runs: list[Run]) -> list[Run]:
    """Put runs in order and join those that touch in all texts."""
    joined: list[Run] = []
    for place, length in sorted(runs):
        if joined and all(at + joined[-1][1] == here for at, here in zip(joined[-1][0], place, strict=True)):
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((place, length))
    return joined


def _without_accidents(runs: list[Run], numbered: Numbered, *, starts: bool, ends: bool) -> list[Run]:
    """Drop runs for which what lies beside them gives too little evidence: few documents, met in many prompts."""
    kept = list(runs)
    texts = len(numbered.bounds)
    number = int(starts)
    while number < len(kept) - int(ends):
        place, length = kept[number]
        before = [at + kept[number - 1][1] for at in kept[number - 1][0]] if number else None
        after = kept[number + 1][0] if number + 1 < len(kept) else None
        lefts = before or [start for start, _ in numbered.bounds]
        rights = after or [end for _, end in numbered.bounds]
        bits = _bits(numbered.words[place[0] : place[0] + length])
        beside = sum(right - left - length for left, right in zip(lefts, rights, strict=True)) / texts
        if bits and not _is_evident(bits, 2, beside):
            different = {
                (
                    numbered.stretch(max(left, at - NEAR_TOKENS), at),
                    numbered.stretch(at + length, min(right, at + length + NEAR_TOKENS)),
                )
                for left, at, right in zip(lefts, place, rights, strict=True)
            }
            if not _is_evident(bits, len(different), beside):
                del kept[number]
                number = max(int(starts), number - 1)
                continue
        number += 1
    return kept


def _place(numbered: Numbered) -> list[Run]:
    """Return the runs of all shared tokens, in no order; runs may touch."""
    placed: list[Run] = []
    work: list[tuple[Strip, int]] = [(list(numbered.bounds), 0)]
    if len(work[0][0]) == 1:
        return [([0], len(numbered.words))] if numbered.words else []
    while work:
        strip, level = work.pop()
        strip = _strip_edges(numbered, strip, placed)
        if any(start == end for start, end in strip):
            continue
        while level < LEVELS:
            size = (GRAM_SIZES + SERIES_SIZES)[level]
            find = _landmarks if level < len(GRAM_SIZES) else _series
            landmarks = find(numbered, strip, size)
            if landmarks:
                at = [start for start, _ in strip]
                for landmark in landmarks:
                    placed.append((landmark, size))
                    work.append((list(zip(at, landmark, strict=True)), level))
                    at = [position + size for position in landmark]
                work.append(([(here, end) for here, (_, end) in zip(at, strip, strict=True)], level))
                break
            level += 1
    return placed


def _strip_edges(numbered: Numbered, strip: Strip, placed: list[Run]) -> Strip:
    """Take the tokens all texts share at both ends of a strip."""
    words = numbered.phrases(1)
    starts, ends = [start for start, _ in strip], [end for _, end in strip]
    head = min(end - start for start, end in strip)
    for at in starts[1:]:
        head = _alike(words, starts[0], at, head)
    if head:
        placed.append((starts, head))
    starts = [start + head for start in starts]
    tail = min(end - start for start, end in zip(starts, ends, strict=True))
    for at in ends[1:]:
        tail = _alike_before(words, ends[0], at, tail)
    if tail:
        placed.append(([end - tail for end in ends], tail))
    return [(start, end - tail) for start, end in zip(starts, ends, strict=True)]


def _alike(words: list[int], one: int, other: int, most: int) -> int:
    """Return how many words behind two places are the same."""
    low, high = 0, most + 1
    probe = most  # all of them, more often than not
    while high - low > 1:
        if words[one + low : one + probe] == words[other + low : other + probe]:
            low = probe
        else:
            high = probe
        probe = (low + high) // 2
    return low


def _alike_before(words: list[int], one: int, other: int, most: int) -> int:
    """Return how many words before two places are the same."""
    low, high = 0, most + 1
    probe = most
    while high - low > 1:
        if words[one - probe : one - low] == words[other - probe : other - low]:
            low = probe
        else:
            high = probe
        probe = (low + high) // 2
    return low


def _landmarks(numbered: Numbered, strip: Strip, size: int) -> list[Place]:
    """Return non-overlapping landmarks of a strip in order, each as its place in every text."""
    phrases = numbered.phrases(size)
    firsts: list[Known] = []
    lasts: list[Known] = []
    shared: set[int] | None = None
    for start, end in strip:
        grams = phrases[start : max(start, end - size + 1)]
        last = dict(zip(grams, range(start, start + len(grams)), strict=True))
        shared = set(last) if shared is None else shared & last.keys()
        if not shared:
            return []
        lasts.append(last)
        if len(last) < len(grams):
            grams.reverse()
            last = dict(zip(grams, range(start + len(grams) - 1, start - 1, -1), strict=True))
        firsts.append(last)
    need = max(2, math.ceil(UNIQUE_SHARE_MIN * len(strip)))
    different, length = _variety(numbered, strip)
    by_clarity: dict[bool, list[int]] = {True: [], False: []}
    for gram in shared or ():
        once = sum(first[gram] == last[gram] for first, last in zip(firsts, lasts, strict=True))
        if once >= need:
            at = lasts[0][gram]
            if _is_evident(_bits(numbered.words[at : at + size]), different, length):
                by_clarity[once == len(strip)].append(gram)
    return _ordered(by_clarity[True] or by_clarity[False], firsts, lasts, phrases, strip, size)


def _series(numbered: Numbered, strip: Strip, size: int) -> list[Place]:
    """Return all places of a phrase that every text repeats equally often: `- a, - b, - c` holds a series of dashes."""
    phrases = numbered.phrases(size)
    shared: set[tuple[int, int]] | None = None
    for start, end in strip:
        count = Counter(phrases[start : max(start, end - size + 1)])
        repeated = {(gram, times) for gram, times in count.items() if times > 1}
        shared = repeated if shared is None else shared & repeated
        if not shared:
            return []
    different, length = _variety(numbered, strip)
    if different < SERIES_TEXTS_MIN:
        return []
    for gram, _ in sorted(shared or (), key=lambda item: (-item[1], item[0])):
        at = phrases.index(gram, *strip[0])
        words = numbered.words[at : at + size]
        if _is_evident(_bits(words), different, length) and len(set(words)) == size:
            places = [[at for at in range(start, end - size + 1) if phrases[at] == gram] for start, end in strip]
            return [list(place) for place in zip(*places, strict=True)]
    return []


def _variety(numbered: Numbered, strip: Strip) -> tuple[int, float]:
    """Return how many different texts a strip holds, and their mean length."""
    different = {numbered.stretch(start, end) for start, end in strip}
    return len(different), sum(end - start for start, end in strip) / len(strip)


def _is_evident(bits: float, different: int, length: float) -> bool:
    """Tell whether a phrase that stands in all of some different texts is more than chance.

    A phrase of b bits comes up by chance about length / 2^b times in a text: what finding it in one more text says is
    b - log2(length) bits, though never less than that of a coin that shows once what it might have shown twice.
    There are about `length` phrases that might have been found.
    """
    places = math.log2(1 + length)
    return bits > 0 and max(BITS_LEAST, bits - places) * (different - 1) >= places + BITS_SPARE


def _bits(phrase: Sequence[str]) -> float:
    """Return the evidence of a phrase found in one more text; marks and blanks alone are none."""
    if not any(word[0].isalnum() or word == "\n" for word in phrase):
        return 0.0
    bits = 0.0
    for word in phrase:
        if word == "\n" or not word.isspace():
            strong = word == "\n" or (len(word) > SHORT_WORD_CHARS and word[0].isalnum())
            bits += BITS_OF_WORD if strong else BITS_OF_WORD / 2
    return bits


def _ordered(
    candidates: list[int],
    firsts: list[Known],
    lasts: list[Known],
    phrases: list[int],
    strip: Strip,
    size: int,
) -> list[Place]:
    """Keep the candidates that stand in one order in all texts."""
    if not candidates:
        return []
    pairs = list(zip(firsts, lasts, strict=True))
    # The text in which most candidates stand once leads; ties go to the earlier text.
    first, last = max(pairs, key=lambda pair: sum(pair[0][gram] == pair[1][gram] for gram in candidates))
    candidates = sorted((gram for gram in candidates if first[gram] == last[gram]), key=first.__getitem__)
    support: Counter[int] = Counter()
    for first, last in pairs:
        known = [gram for gram in candidates if first[gram] == last[gram]]
        support.update(known[index] for index in _rising([first[gram] for gram in known]))
    landmarks: list[Place] = []
    at = [start for start, _ in strip]
    for gram in candidates:
        if support[gram] >= UNIQUE_SHARE_MIN * len(strip):
            place = _place_of(gram, pairs, phrases, at)
            if place is not None:
                landmarks.append(place)
                at = [position + size for position in place]
    return landmarks


def _place_of(gram: int, known: list[tuple[Known, Known]], phrases: list[int], at: list[int]) -> Place | None:
    """Return where a phrase first stands behind `at` in every text, or None."""
    place = []
    for (first, last), start in zip(known, at, strict=True):
        if last[gram] < start:
            return None
        place.append(first[gram] if first[gram] >= start else phrases.index(gram, start, last[gram] + 1))
    return place


def _rising(values: list[int]) -> list[int]:
    """Return the indices of a longest increasing subsequence."""
    if all(one < other for one, other in pairwise(values)):
        return list(range(len(values)))
    tails: list[int] = []
    indices: list[int] = []
    back: list[int] = []
    for index, value in enumerate(values):
        at = bisect_left(tails, value)
        back.append(indices[at - 1] if at else -1)
        if at == len(tails):
            tails.append(value)
            indices.append(index)
        else:
            tails[at], indices[at] = value, index
    chain = []
    index = indices[-1] if indices else -1
    while index >= 0:
        chain.append(index)
        index = back[index]
    return chain[::-1]
