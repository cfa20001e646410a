"""Machine code finds the tokens, the strangers and the runs that plain definitions tell of."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.prompts.canonicalization.alignment import LANDMARK_SIZES, SERIES_SIZES, align
from streams.prompts.canonicalization.compiled import phrases, strips
from streams.prompts.canonicalization.compiled.phrases import SIZE_MAX
from streams.prompts.canonicalization.compiled.tokens import CLASSED, WORD
from streams.prompts.canonicalization.tokens import Numbered, Tokens, tokenize, without_strangers
from tests import plain_alignment as plain
from tests.canonical import dice

LETTERS = ["a", "Z", "é", "n", "r", "t", "f", "中", "・", "か", "ก", "\U00020000", "²"]
MARKS = ["_", "-", "{", "\\", "\ufdd0", "\ufdd1", "\ufdd0ab12\ufdd1", "\U0001f600", "\udc80"]
PIECES = [*LETTERS, *MARKS, "7", "0", "٣", "๕", " ", "\t", "\u3000", "\n", "\r", "\x1c"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=30)
# Few words, so that phrases come again, in other orders and numbers.
WORDS = ["Summarize", "this", "in", "the", "letter", ",", ".", "\n", "-", "{", "中", "one", "topic"]
DOCUMENTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join)


@given(TEXT)
@example("\\n\\x\\" + "1๕1 ๕a\ufdd0ab\ufdd0\ufdd1\n\n \n")
def test_a_text_is_cut_as_the_pattern_says(text: str) -> None:
    assert tokenize(text) == plain.TOKEN.findall(text)


@given(st.lists(TEXT, max_size=5))
def test_texts_are_cut_each_by_itself(texts: list[str]) -> None:
    tokens = Tokens(texts)
    assert np.diff(tokens.ends, prepend=0).tolist() == [len(plain.TOKEN.findall(text)) for text in texts]


def test_every_character_is_of_the_class_the_pattern_says() -> None:
    """Between two letters, and behind a digit, it shows which characters go on with it."""
    for before in ("a", "1", " "):
        everything = "".join(f"{before}{chr(code)}" for code in range(sys.maxunicode + 1))
        assert tokenize(everything) == plain.TOKEN.findall(everything)
    beyond = "".join(map(chr, range(CLASSED, sys.maxunicode + 1)))
    assert plain.TOKEN.findall(beyond) == list(beyond)


@given(st.lists(TEXT, min_size=1, max_size=5))
@example([" ".join("a" * length for length in range(1, 200))])  # some meet in the table, each the beginning of another
def test_tokens_have_one_number_if_they_are_alike(texts: list[str]) -> None:
    words = [word for text in texts for word in plain.TOKEN.findall(text)]
    known = list(dict.fromkeys(words))
    numbered = Numbered(Tokens(texts))
    assert numbered.words.tolist() == list(map(known.index, words))
    for at, word in enumerate(words):
        worth = strips.worth(numbered.words, numbered.kinds, at, 1)
        assert worth * plain.BITS_OF_WORD / 2 == plain.bits([word])


def test_no_phrase_is_longer_than_those_that_are_numbered() -> None:
    assert max(LANDMARK_SIZES + SERIES_SIZES) <= SIZE_MAX


def alignments_agree(texts: list[str]) -> None:
    expected = plain.aligned([plain.TOKEN.findall(text) for text in texts])
    assert align(Numbered(Tokens(texts))) == expected


@given(st.lists(DOCUMENTS, min_size=1, max_size=10))
def test_runs_of_any_texts_are_those_of_the_plain_search(texts: list[str]) -> None:
    alignments_agree(texts)


@pytest.mark.parametrize("seed", range(100))
def test_runs_of_filled_templates_are_those_of_the_plain_search(seed: int) -> None:
    """Constants, and between them values that quote them, are lists, or two documents that come again."""
    chance = dice(seed)
    sizes = chance.choices((1, 1, 2, 8), k=chance.randrange(1, 6))
    constants = [" ".join(chance.choices(WORDS, k=size)) for size in sizes]
    names = [chance.randbytes(3).hex() for _ in range(chance.randrange(1, 60))]
    vocabulary = names if seed % 3 else [*names, *WORDS]
    documents = [" ".join(chance.choices([*names, *WORDS], k=30)) for _ in range(2)]
    mark, repeats = chance.choice(("- ", "\n* ", "; the ", " one, ")), chance.randrange(2, 5)

    def value(kind: int) -> str:
        if kind == 0:
            return chance.choice(constants)
        if kind == 1:
            return "".join(mark + chance.choice(vocabulary) for _ in range(repeats))
        if kind == 2:
            return chance.choice(documents)
        return " ".join(chance.choices(vocabulary, k=chance.randrange(1, 12)))

    kinds = chance.choices((1, 1, 2, 3), k=len(constants))
    texts = []
    for _ in range(chance.choice((10, chance.randrange(2, 24)))):
        quoting = [0 if chance.random() < 0.1 else kind for kind in kinds]
        parts = chance.sample(constants, k=len(constants)) if chance.random() < 0.1 else constants
        texts.append("".join(f"{constant} {value(kind)}\n" for constant, kind in zip(parts, quoting, strict=True)))
    alignments_agree(texts)
    strange = [*texts, " ".join(chance.choices(names, k=40))]
    tokens = [plain.TOKEN.findall(text) for text in strange]
    assert without_strangers(Numbered(Tokens(strange))) == plain.familiar(tokens)


def test_of_equally_frequent_marks_the_one_that_texts_name_first_is_a_series() -> None:
    """In `a b a b a`, of which all texts share the first word, that is the a, though the b comes first in the strip."""
    words = np.array([0, 1, 0, 1, 0] * 2)
    strip = np.array([[1, 6], [5, 10]])
    kinds = np.full(2, WORD, dtype=np.uint8)
    assert strips.series(words, kinds, phrases.shared(words, strip), strip, 1, 1).tolist() == [[2, 7], [4, 9]]


def test_a_phrase_with_a_word_twice_is_no_series() -> None:
    words = np.array([0, 1, 1, 2, 1, 1, 3] * 2)
    strip = np.array([[0, 7], [7, 14]])
    kinds = np.full(4, WORD, dtype=np.uint8)
    assert strips.series(words, kinds, phrases.shared(words, strip), strip, 2, 1).tolist() == []
    assert strips.series(words, kinds, phrases.shared(words, strip), strip, 1, 1).tolist() == [
        [1, 8], [2, 9], [4, 11], [5, 12]
    ]  # fmt: skip


@given(st.lists(DOCUMENTS, min_size=1, max_size=12))
def test_strangers_are_those_of_the_plain_count(texts: list[str]) -> None:
    tokens = [plain.TOKEN.findall(text) for text in texts]
    assert without_strangers(Numbered(Tokens(texts))) == plain.familiar(tokens)
