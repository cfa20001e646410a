"""Find what texts filled from one template have in common, and where.

Pure. Texts are cut into tokens that lose nothing (white space and line breaks are tokens; a script without
spaces is cut by character). A *run* is a stretch of tokens that every text holds, in the same order; what lies
between two runs differs from text to text.

Intuition: lay the texts side by side and look for landmarks, phrases that stand exactly once in (nearly) every
one of them. Long phrases are sure landmarks, so they are placed first; they cut the problem into strips, and in
each strip shorter phrases may become landmarks in their turn. A phrase that stands twice in a text is no
landmark, which keeps the common words of long slot values from being taken for constants.

Rules
  1. A text that lacks many landmarks all others hold is a stranger (of another template, or version): it is left out.
  2. Next to a landmark, equal tokens extend it, as far as all texts agree.
  3. A landmark needs evidence: the shorter it is, and the fewer *different* texts surround it, the likelier it
     stands there by chance (`_is_evident`).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, kana, Han: no spaces between words
TOKEN = re.compile(
    rf"[{UNSPACED}]"  # one character of a script without spaces
    rf"|\\[nrt]"  # a line break that was escaped on its way, often glued to the next word
    rf"|[^\W\d_{UNSPACED}]+|\d+"  # a word, a number
    rf"|\n|[^\S\n]+"  # white space, a line break on its own
    rf"|[^\w\s]|_"  # any other mark
)

GRAM_SIZES = (4, 2, 1)  # lengths of landmarks, surest first
SERIES_SIZES = (3, 2, 1)  # lengths of phrases that stand equally often in every text: the marks of a list
LEVELS = len(GRAM_SIZES) + len(SERIES_SIZES)
SERIES_TEXTS_MIN = 8  # different texts from which an equal number of repetitions is no accident
TOKENS_MAX = 6_000  # of all texts together: bounds one alignment to some 15 ms
NEAR_TOKENS = 20  # beside a run, by which texts are told apart there
RUN = "\x00"  # stands for the run between them
TEXTS_MIN = 6  # that are aligned however long they are
STRANGER_SHARE_MAX = 0.2  # of texts that may be left out; with more, the texts simply have less in common
STRANGER_LANDMARKS_MIN = 0.7  # share of the sure landmarks a text must hold
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


Gram = tuple[str, ...]
Place = tuple[int, ...]  # one position a text
Known = dict[Gram, int]  # where phrases stand in a text: their first places, or their last ones
Strip = list[tuple[int, int]]  # for each text, the range of its tokens still to be aligned


def tokenize(text: str) -> list[str]:
    """Cut a text into tokens; joined, they are the text."""
    return TOKEN.findall(text)


def of_one_template(texts: Sequence[str]) -> list[str]:
    """Return the texts without strangers, and not more than can be aligned at once. They come sorted by length."""
    tokens = _affordable([tokenize(text) for text in texts])
    return ["".join(tokens[index]) for index in _without_strangers(tokens)]


def align(texts: Sequence[str]) -> Alignment:
    """Return the runs all texts share."""
    tokens = [tokenize(text) for text in texts]
    runs: list[list[Place]] = []
    for place in _place(tokens):
        if runs and all(now == before + 1 for now, before in zip(place, runs[-1][-1], strict=True)):
            runs[-1].append(place)
        else:
            runs.append([place])
    starts = bool(runs) and not any(runs[0][0])
    ends = bool(runs) and all(at == len(words) - 1 for at, words in zip(runs[-1][-1], tokens, strict=True))
    runs = _without_accidents(runs, tokens, starts=starts, ends=ends)
    leader = tokens[0]
    return Alignment(tuple("".join(leader[place[0]] for place in run) for run in runs), starts, ends)


def _without_accidents(
    runs: list[list[Place]], tokens: list[list[str]], *, starts: bool, ends: bool
) -> list[list[Place]]:
    """Drop runs for which what lies beside them gives too little evidence: few documents, met in many prompts."""
    kept = list(runs)
    number = int(starts)
    while number < len(kept) - int(ends):
        beside, length = set(), 0
        for text, words in enumerate(tokens):
            first, last = kept[number][0][text], kept[number][-1][text]
            start = kept[number - 1][-1][text] + 1 if number else 0
            end = kept[number + 1][0][text] if number + 1 < len(kept) else len(words)
            length += end - last + first - start
            beside.add(
                (
                    *words[max(start, first - NEAR_TOKENS) : first],
                    RUN,
                    *words[last + 1 : min(end, last + 1 + NEAR_TOKENS)],
                )
            )
        bits = _bits(tuple(tokens[0][place[0]] for place in kept[number]))
        if bits and not _is_evident(bits, len(beside), length / len(tokens)):
            del kept[number]
            number = max(int(starts), number - 1)
        else:
            number += 1
    return kept


def _affordable(tokens: list[list[str]]) -> list[list[str]]:
    """Take fewer texts where all together are too long, from the shortest to the longest in even steps."""
    total = sum(map(len, tokens))
    if total <= TOKENS_MAX or len(tokens) <= TEXTS_MIN:
        return tokens
    count = max(TEXTS_MIN, len(tokens) * TOKENS_MAX // total)
    return [tokens[index * (len(tokens) - 1) // (count - 1)] for index in range(count)]


def _without_strangers(tokens: list[list[str]]) -> list[int]:
    everyone = list(range(len(tokens)))
    if len(tokens) < 5:
        return everyone
    holders: Counter[Gram] = Counter()
    grams = [set(zip(*(words[shift:] for shift in range(4)), strict=False)) for words in tokens]
    for held in grams:
        holders.update(held)
    common = {gram for gram, count in holders.items() if count >= (1 - STRANGER_SHARE_MAX) * len(tokens)}
    kept = [index for index in everyone if len(common & grams[index]) >= STRANGER_LANDMARKS_MIN * len(common)]
    return kept if len(kept) >= (1 - STRANGER_SHARE_MAX) * len(tokens) else everyone


def _place(tokens: list[list[str]]) -> list[Place]:
    """Return the places (one position a text) of every shared token, in order."""
    if len(tokens) == 1:
        return [(position,) for position in range(len(tokens[0]))]
    placed: list[Place] = []
    work: list[tuple[Strip, int]] = [([(0, len(words)) for words in tokens], 0)]
    while work:
        strip, level = work.pop()
        strip, edges = _strip_edges(tokens, strip)
        placed += edges
        if any(start == end for start, end in strip):
            continue
        while level < LEVELS:
            size = (GRAM_SIZES + SERIES_SIZES)[level]
            find = _landmarks if level < len(GRAM_SIZES) else _series
            landmarks = find(tokens, strip, size)
            if landmarks:
                at = [start for start, _ in strip]
                for landmark in landmarks:
                    placed += [tuple(position + shift for position in landmark) for shift in range(size)]
                    work.append((list(zip(at, landmark, strict=True)), level))
                    at = [position + size for position in landmark]
                work.append(([(here, end) for here, (_, end) in zip(at, strip, strict=True)], level))
                break
            level += 1
    placed.sort()
    return placed


def _strip_edges(tokens: list[list[str]], strip: Strip) -> tuple[Strip, list[Place]]:
    """Take the tokens all texts share at both ends of a strip."""
    starts, ends = [start for start, _ in strip], [end for _, end in strip]
    shortest = min(end - start for start, end in strip)
    edges = []
    first, pairs = tokens[0], list(zip(tokens, starts, strict=True))
    head = 0
    while head < shortest and all(words[at + head] == first[starts[0] + head] for words, at in pairs):
        edges.append(tuple(at + head for at in starts))
        head += 1
    tail, pairs = 0, list(zip(tokens, ends, strict=True))
    while tail < shortest - head and all(words[at - tail - 1] == first[ends[0] - tail - 1] for words, at in pairs):
        tail += 1
        edges.append(tuple(at - tail for at in ends))
    return [(start + head, end - tail) for start, end in strip], edges


def _landmarks(tokens: list[list[str]], strip: Strip, size: int) -> list[Place]:
    """Return non-overlapping landmarks of a strip in order, each as its place in every text."""
    firsts: list[Known] = []
    lasts: list[Known] = []
    shared: set[Gram] | None = None
    for words, (start, end) in zip(tokens, strip, strict=True):
        grams = list(zip(*(words[start + shift : end] for shift in range(size)), strict=False))
        last = dict(zip(grams, range(start, start + len(grams)), strict=True))
        shared = set(last) if shared is None else shared & last.keys()
        if not shared:
            return []
        lasts.append(last)
        if len(last) < len(grams):
            grams.reverse()
            last = dict(zip(grams, range(start + len(grams) - 1, start - 1, -1), strict=True))
        firsts.append(last)
    need = max(2, math.ceil(UNIQUE_SHARE_MIN * len(tokens)))
    different, length = _variety(tokens, strip)
    candidates = []
    for gram in shared or ():
        once = sum(first[gram] == last[gram] for first, last in zip(firsts, lasts, strict=True))
        if once >= need and _is_evident(_bits(gram), different, length):
            candidates.append(gram)
    return _ordered(candidates, firsts, lasts, tokens, strip, size)


def _series(tokens: list[list[str]], strip: Strip, size: int) -> list[Place]:
    """Return all places of a phrase that every text repeats equally often: `- a, - b, - c` holds a series of dashes."""
    counts: list[Counter[Gram]] = []
    shared: set[tuple[Gram, int]] | None = None
    for words, (start, end) in zip(tokens, strip, strict=True):
        count = Counter(zip(*(words[start + shift : end] for shift in range(size)), strict=False))
        repeated = {(gram, times) for gram, times in count.items() if times > 1}
        shared = repeated if shared is None else shared & repeated
        if not shared:
            return []
        counts.append(count)
    different, length = _variety(tokens, strip)
    if different < SERIES_TEXTS_MIN:
        return []
    for gram, _ in sorted(shared or (), key=lambda item: (-item[1], item[0])):
        if _is_evident(_bits(gram), different, length) and len(set(gram)) == size:
            places = [
                [at for at in range(start, end - size + 1) if tuple(words[at : at + size]) == gram]
                for words, (start, end) in zip(tokens, strip, strict=True)
            ]
            return list(zip(*places, strict=True))
    return []


def _variety(tokens: list[list[str]], strip: Strip) -> tuple[int, float]:
    """Return how many different texts a strip holds, and their mean length."""
    different = {tuple(words[start:end]) for words, (start, end) in zip(tokens, strip, strict=True)}
    return len(different), sum(end - start for start, end in strip) / len(strip)


def _is_evident(bits: float, different: int, length: float) -> bool:
    """Tell whether a phrase that stands in all of some different texts is more than chance.

    A phrase of b bits comes up by chance about length / 2^b times in a text: what finding it in one more text says is
    b - log2(length) bits, though never less than that of a coin that shows once what it might have shown twice.
    There are about `length` phrases that might have been found.
    """
    places = math.log2(1 + length)
    return bits > 0 and max(BITS_LEAST, bits - places) * (different - 1) >= places + BITS_SPARE


def _bits(gram: Gram) -> float:
    """Return the evidence of a phrase found in one more text; marks and blanks alone are none."""
    if not any(word[0].isalnum() or word == "\n" for word in gram):
        return 0.0
    bits = 0.0
    for word in gram:
        if word == "\n" or not word.isspace():
            strong = word == "\n" or (len(word) > SHORT_WORD_CHARS and word[0].isalnum())
            bits += BITS_OF_WORD if strong else BITS_OF_WORD / 2
    return bits


def _ordered(
    candidates: list[Gram],
    firsts: list[Known],
    lasts: list[Known],
    tokens: list[list[str]],
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
    support: Counter[Gram] = Counter()
    for first, last in pairs:
        known = [gram for gram in candidates if first[gram] == last[gram]]
        support.update(known[index] for index in _rising([first[gram] for gram in known]))
    landmarks: list[Place] = []
    at = [start for start, _ in strip]
    for gram in candidates:
        if support[gram] >= UNIQUE_SHARE_MIN * len(tokens):
            place = _place_of(gram, pairs, tokens, at)
            if place is not None:
                landmarks.append(place)
                at = [position + size for position in place]
    return landmarks


def _place_of(gram: Gram, known: list[tuple[Known, Known]], tokens: list[list[str]], at: list[int]) -> Place | None:
    """Return where a phrase first stands behind `at` in every text, or None."""
    place = []
    for (first, last), words, start in zip(known, tokens, at, strict=True):
        position, final = first[gram], last[gram]
        if final < start:
            return None
        while position < start or tuple(words[position : position + len(gram)]) != gram:
            position = words.index(gram[0], max(position + 1, start), final + 1)
        place.append(position)
    return tuple(place)


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
