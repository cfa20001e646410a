"""What alignment finds, written out as plainly as can be: words are strings, phrases are tuples, nothing is fast."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from streams.prompts.canonicalization.alignment import LANDMARK_SIZES, NEAR_TOKENS, SERIES_SIZES, Alignment
from streams.prompts.canonicalization.strips import BITS_OF_WORD, SERIES_TEXTS_MIN, UNIQUE_SHARE_MIN, is_evident
from streams.prompts.canonicalization.tokens import (
    SHORT_WORD_CHARS,
    STRANGER_LANDMARKS_MIN,
    STRANGER_PHRASE,
    STRANGER_SHARE_MAX,
)

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
TOKEN = re.compile(
    "\ufdd0[0-9a-f]*\ufdd1"  # where the middle of a long text was left out (`without_middle`)
    rf"|[{UNSPACED}]"  # one character of a script without spaces
    rf"|\\[nrt]"  # a line break that was escaped on its way, often glued to the next word
    rf"|[^\W\d_{UNSPACED}]+|\d+"  # a word, a number
    rf"|\n|[^\S\n]+"  # white space, a line break on its own
    rf"|[^\w\s]|_"  # any other mark
)

Words = Sequence[str]
Place = tuple[int, ...]
Strip = tuple[Place, Place]  # where it starts in each text, and where it ends


def tells(word: str) -> bool:
    return word[0].isalnum() or word == "\n"


def bits(phrase: Words) -> float:
    """Return the evidence of a phrase."""
    if not any(map(tells, phrase)):
        return 0.0
    strong = [word == "\n" or (len(word) > SHORT_WORD_CHARS and word[0].isalnum()) for word in phrase]
    return sum(
        0.0 if word.isspace() and word != "\n" else BITS_OF_WORD if is_strong else BITS_OF_WORD / 2
        for word, is_strong in zip(phrase, strong, strict=True)
    )


def familiar(texts: Sequence[Words]) -> list[int]:
    """Return which texts hold most of what most texts hold."""
    if len(texts) < 5:
        return list(range(len(texts)))
    held = [{tuple(text[at : at + STRANGER_PHRASE]) for at in range(len(text) - STRANGER_PHRASE + 1)} for text in texts]
    holders = Counter(phrase for phrases in held for phrase in phrases)
    common = {phrase for phrase, count in holders.items() if count >= math.ceil((1 - STRANGER_SHARE_MAX) * len(texts))}
    kept = [
        index for index, phrases in enumerate(held) if len(common & phrases) >= STRANGER_LANDMARKS_MIN * len(common)
    ]
    return kept if len(kept) >= (1 - STRANGER_SHARE_MAX) * len(texts) else list(range(len(texts)))


def aligned(texts: Sequence[Words]) -> Alignment:
    """Return the runs all texts share."""
    starts, ends = tuple(0 for _ in texts), tuple(map(len, texts))
    joined: list[tuple[Place, int]] = []
    for place, length in sorted(placed(texts, (starts, ends), 0)):
        if joined and after(*joined[-1]) == place:
            joined[-1] = joined[-1][0], joined[-1][1] + length
        else:
            joined.append((place, length))
    starting, ending = bool(joined) and joined[0][0] == starts, bool(joined) and after(*joined[-1]) == ends
    number = int(starting)
    while number < len(joined) - int(ending):
        lefts = after(*joined[number - 1]) if number else starts
        rights = joined[number + 1][0] if number + 1 < len(joined) else ends
        if is_accident(texts, *joined[number], lefts, rights):
            del joined[number]
            number = max(int(starting), number - 1)
        else:
            number += 1
    runs = ("".join(texts[0][place[0] : place[0] + length]) for place, length in joined)
    return Alignment(tuple(runs), starting, ending)


def after(place: Place, length: int) -> Place:
    return tuple(at + length for at in place)


def is_accident(texts: Sequence[Words], place: Place, length: int, lefts: Place, rights: Place) -> bool:
    worth = bits(texts[0][place[0] : place[0] + length])
    beside = (sum(rights) - sum(lefts) - length * len(texts)) / len(texts)
    near = {
        (
            tuple(text[max(left, at - NEAR_TOKENS) : at]),
            tuple(text[at + length : min(right, at + length + NEAR_TOKENS)]),
        )
        for text, left, at, right in zip(texts, lefts, place, rights, strict=True)
    }
    return worth > 0 and not is_evident(worth, 2, beside) and not is_evident(worth, len(near), beside)


def placed(texts: Sequence[Words], strip: Strip, level: int) -> list[tuple[Place, int]]:
    """Return the runs of all shared tokens of a strip, in no order."""
    runs = []
    starts, ends = strip
    while all(map(int.__lt__, starts, ends)) and len({text[at] for text, at in zip(texts, starts, strict=True)}) == 1:
        runs.append((starts, 1))
        starts = after(starts, 1)
    while all(map(int.__lt__, starts, ends)) and len({text[at - 1] for text, at in zip(texts, ends, strict=True)}) == 1:
        ends = after(ends, -1)
        runs.append((ends, 1))
    held = [text[start:end] for text, start, end in zip(texts, starts, ends, strict=True)]
    if not all(held) or not any(map(tells, set(held[0]).intersection(*held[1:]))):
        return runs
    for number, size in list(enumerate(LANDMARK_SIZES + SERIES_SIZES))[level:]:
        phrases = [[tuple(text[at : at + size]) for at in range(len(text) - size + 1)] for text in held]
        shared = set(phrases[0]).intersection(*phrases[1:])
        different, length = len(set(map(tuple, held))), sum(map(len, held)) / len(held)
        evident = {phrase for phrase in shared if is_evident(bits(phrase), different, length)}
        if number < len(LANDMARK_SIZES):
            within = landmarks(phrases, evident, size)
        else:
            within = series(phrases, evident, texts[0]) if different >= SERIES_TEXTS_MIN else []
        found = [tuple(start + at for start, at in zip(starts, place, strict=True)) for place in within]
        if found:
            runs += [(place, size) for place in found]
            for strip_between in zip([starts, *(after(place, size) for place in found)], [*found, ends], strict=True):
                runs += placed(texts, strip_between, number)
            break
    return runs


Phrases = list[list[tuple[str, ...]]]


def landmarks(phrases: Phrases, evident: set[tuple[str, ...]], size: int) -> list[Place]:
    """Return the landmarks that stand in one order in nearly all texts."""
    once = {phrase: sum(text.count(phrase) == 1 for text in phrases) for phrase in evident}
    need = max(2, math.ceil(UNIQUE_SHARE_MIN * len(phrases)))
    clear = {phrase for phrase in evident if once[phrase] == len(phrases)}
    candidates = clear or {phrase for phrase in evident if once[phrase] >= need}
    lead = max(phrases, key=lambda text: sum(text.count(phrase) == 1 for phrase in candidates))
    ordered = sorted((phrase for phrase in candidates if lead.count(phrase) == 1), key=lead.index)
    support: Counter[tuple[str, ...]] = Counter()
    for text in phrases:
        here = [phrase for phrase in ordered if text.count(phrase) == 1]
        support.update(here[index] for index in rising([text.index(phrase) for phrase in here]))
    found: list[Place] = []
    at: Place = tuple(0 for _ in phrases)
    for phrase in ordered:
        there = all(phrase in text[start:] for text, start in zip(phrases, at, strict=True))
        if support[phrase] >= UNIQUE_SHARE_MIN * len(phrases) and there:
            found.append(tuple(text.index(phrase, start) for text, start in zip(phrases, at, strict=True)))
            at = after(found[-1], size)
    return found


def rising(values: list[int]) -> list[int]:
    """Return the indices of a longest increasing subsequence: of several, of the one that patience finds."""
    tails: list[int] = []
    indices: list[int] = []
    back: dict[int, int | None] = {}
    for index, value in enumerate(values):
        at = bisect_left(tails, value)
        back[index] = indices[at - 1] if at else None
        tails[at:], indices[at:] = [value, *tails[at + 1 :]], [index, *indices[at + 1 :]]
    chain = []
    last = indices[-1] if indices else None
    while last is not None:
        chain.append(last)
        last = back[last]
    return chain[::-1]


def series(phrases: Phrases, evident: set[tuple[str, ...]], first: Words) -> list[Place]:
    """Return all places of the phrase that every text repeats equally often, and most often; of equals the earlier."""
    times = {phrase: {text.count(phrase) for text in phrases} for phrase in evident if len(set(phrase)) == len(phrase)}
    repeated = [phrase for phrase, counts in times.items() if len(counts) == 1 and min(counts) > 1]
    if not repeated:
        return []
    most = min(repeated, key=lambda phrase: (-phrases[0].count(phrase), [first.index(word) for word in phrase]))
    places = [[at for at, phrase in enumerate(text) if phrase == most] for text in phrases]
    return list(zip(*places, strict=True))
