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

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from operator import eq, sub

from streams.prompts.canonicalization.strips import Place, Strip, Words, is_evident
from streams.prompts.canonicalization.tokens import Numbered

GRAM_SIZES = (4, 2, 1)  # lengths of landmarks, surest first
SERIES_SIZES = (3, 2, 1)  # lengths of phrases that stand equally often in every text: the marks of a list
LEVELS = len(GRAM_SIZES) + len(SERIES_SIZES)
SERIES_TEXTS_MIN = 8  # different texts from which an equal number of repetitions is no accident
NEAR_TOKENS = 20  # beside a run, by which texts are told apart there
UNIQUE_SHARE_MIN = 0.7  # of texts in which a landmark stands once; in the others a slot value quotes it


@dataclass(frozen=True, slots=True)
class Alignment:
    """What texts share: the runs in order, and whether all texts start with the first and end with the last one."""

    runs: tuple[str, ...]
    starts_with_run: bool
    ends_with_run: bool


Run = tuple[Place, int]  # where it begins in each text, and its length
Known = dict[int, int]  # where phrases stand in a text: their first places, or their last ones


def align(numbered: Numbered) -> Alignment:
    """Return the runs all texts share."""
    if not numbered.words:
        return Alignment((), starts_with_run=False, ends_with_run=False)
    words = Words(numbered)
    runs = _joined(_place(words))
    starts = bool(runs) and runs[0][0] == numbered.starts
    ends = bool(runs) and [at + runs[-1][1] for at in runs[-1][0]] == numbered.ends
    runs = _without_accidents(runs, words, starts=starts, ends=ends)
    shown = ("".join(numbered.words[place[0] : place[0] + length]) for place, length in runs)
    return Alignment(tuple(shown), starts, ends)


def _joined(runs: list[Run]) -> list[Run]:
    """Put runs in order and join those that touch in all texts."""
    joined: list[Run] = []
    for place, length in sorted(runs):
        if joined and [at + joined[-1][1] for at in joined[-1][0]] == place:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((place, length))
    return joined


def _without_accidents(runs: list[Run], words: Words, *, starts: bool, ends: bool) -> list[Run]:
    """Drop runs for which what lies beside them gives too little evidence: few documents, met in many prompts."""
    kept = list(runs)
    numbered = words.numbered
    texts = len(numbered.ends)
    number = int(starts)
    while number < len(kept) - int(ends):
        place, length = kept[number]
        before = [at + kept[number - 1][1] for at in kept[number - 1][0]] if number else None
        after = kept[number + 1][0] if number + 1 < len(kept) else None
        lefts = before or numbered.starts
        rights = after or numbered.ends
        bits = words.bits(place[0], length)
        beside = (sum(rights) - sum(lefts) - length * texts) / texts
        if bits and not is_evident(bits, 2, beside):
            different = {
                (
                    numbered.stretch(max(left, at - NEAR_TOKENS), at),
                    numbered.stretch(at + length, min(right, at + length + NEAR_TOKENS)),
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
    numbered = words.numbered
    placed: list[Run] = []
    work = [(Strip(words, numbered.starts, numbered.ends), 0)]
    if len(numbered.ends) == 1:
        return [([0], len(numbered.words))]
    while work:
        strip, level = work.pop()
        if _is_empty(strip):
            continue
        strip = _strip_edges(strip, placed)
        if _is_empty(strip) or not strip.shares_words():
            continue
        while level < LEVELS:
            size = (GRAM_SIZES + SERIES_SIZES)[level]
            find = _landmarks if level < len(GRAM_SIZES) else _series
            landmarks = find(strip, size) if strip.may_hold(size) else []
            if landmarks:
                at = strip.starts
                for landmark in landmarks:
                    placed.append((landmark, size))
                    work.append((Strip(words, at, landmark), level))
                    at = [position + size for position in landmark]
                work.append((Strip(words, at, strip.ends), level))
                break
            level += 1
    return placed


def _is_empty(strip: Strip) -> bool:
    """Tell whether some text has nothing left."""
    return any(map(eq, strip.starts, strip.ends))


def _strip_edges(strip: Strip, placed: list[Run]) -> Strip:
    """Take the tokens all texts share at both ends of a strip."""
    words = strip.words.numbered.phrases(1)
    starts, ends = strip.starts, strip.ends
    head = min(map(sub, ends, starts))
    for at in starts[1:]:
        head = _alike(words, starts[0], at, head)
        if not head:
            break
    if head:
        placed.append((starts, head))
        starts = [start + head for start in starts]
    tail = min(map(sub, ends, starts))
    for at in ends[1:]:
        tail = _alike_before(words, ends[0], at, tail)
        if not tail:
            break
    if tail:
        ends = [end - tail for end in ends]
        placed.append((ends, tail))
    return Strip(strip.words, starts, ends)


def _alike(words: list[int], one: int, other: int, most: int) -> int:
    """Return how many words behind two places are the same."""
    if most and words[one] != words[other]:
        return 0
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
    if most and words[one - 1] != words[other - 1]:
        return 0
    low, high = 0, most + 1
    probe = most
    while high - low > 1:
        if words[one - probe : one - low] == words[other - probe : other - low]:
            low = probe
        else:
            high = probe
        probe = (low + high) // 2
    return low


def _landmarks(strip: Strip, size: int) -> list[Place]:
    """Return non-overlapping landmarks of a strip in order, each as its place in every text."""
    held = strip.phrases(size)
    shared = set(held[0])
    for grams in held[1:]:
        shared = shared.intersection(grams)
        if not shared:
            return []
    first, last = _first_and_last(held[0], strip.starts[0])
    shared = {gram for gram in shared if strip.is_evident(last[gram], size)}
    if not shared:
        return []
    known = [(first, last), *map(_first_and_last, held[1:], strip.starts[1:])]
    again = Counter(gram for first, last in known if first is not last for gram in shared if first[gram] != last[gram])
    need = max(2, math.ceil(UNIQUE_SHARE_MIN * len(held)))
    clear = shared.difference(again)
    candidates = clear or {gram for gram in shared if len(held) - again[gram] >= need}
    return _ordered(candidates, known, strip, size) if candidates else []


def _first_and_last(grams: list[int], start: int) -> tuple[Known, Known]:
    """Return where the phrases of a text stand first and last; the same, if none stands there twice."""
    last = dict(zip(grams, range(start, start + len(grams)), strict=True))
    if len(last) == len(grams):
        return last, last
    return dict(zip(reversed(grams), range(start + len(grams) - 1, start - 1, -1), strict=True)), last


def _series(strip: Strip, size: int) -> list[Place]:
    """Return all places of a phrase that every text repeats equally often: `- a, - b, - c` holds a series of dashes."""
    if len(strip.starts) < SERIES_TEXTS_MIN or strip.different < SERIES_TEXTS_MIN:
        return []
    numbered = strip.words.numbered
    start, end = strip.starts[0], strip.ends[0]
    phrases = numbered.phrases(size)
    shared: set[tuple[int, int]] = set()
    for gram, times in Counter(phrases[start : max(start, end - size + 1)]).items():
        if times > 1:
            at = phrases.index(gram, start)
            if strip.is_evident(at, size) and len(set(numbered.words[at : at + size])) == size:
                shared.add((gram, times))
    for grams in strip.phrases(size)[1:] if shared else ():
        shared = {(gram, times) for gram, times in shared if grams.count(gram) == times}
        if not shared:
            break
    if not shared:
        return []
    gram = min(shared, key=lambda item: (-item[1], item[0]))[0]
    places = [[at for at in range(start, end - size + 1) if phrases[at] == gram] for start, end in strip.ranges]
    return [list(place) for place in zip(*places, strict=True)]


def _ordered(candidates: set[int], known: list[tuple[Known, Known]], strip: Strip, size: int) -> list[Place]:
    """Keep the candidates that stand in one order in all texts."""
    # The text in which most candidates stand once leads; ties go to the earlier text.
    first, last = max(known, key=lambda places: len(_once(candidates, *places)))
    ordered = sorted(_once(candidates, first, last), key=first.__getitem__)
    support: Counter[int] = Counter()
    for first, last in known:
        here = list(_once(ordered, first, last))
        places = [first[gram] for gram in here]
        support.update(here if places == sorted(places) else (here[index] for index in _rising(places)))
    landmarks: list[Place] = []
    at = strip.starts
    phrases = strip.words.numbered.phrases(size)
    for gram in ordered:
        if support[gram] >= UNIQUE_SHARE_MIN * len(known) and known[0][1][gram] >= at[0]:
            place = _place_of(gram, known, phrases, at)
            if place is not None:
                landmarks.append(place)
                at = [position + size for position in place]
    return landmarks


def _once(grams: Collection[int], first: Known, last: Known) -> Collection[int]:
    """Return those phrases that stand once in a text."""
    return grams if first is last else [gram for gram in grams if first[gram] == last[gram]]


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
