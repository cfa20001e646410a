"""The sketch of a text: what it is made of does not depend on the way it was computed."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.sketch import LOCATED_CHARS_MAX, SKETCHED_CHARS_MAX, Sketch, located, sketches

TEXTS = (
    "",
    "word",
    "Translate into French: “good morning” – please!",
    "Total: 17 of 23 items\n\nnext line, again 17 of 23 items",
    "a b c a b c a b c",
    "请把下面的句子翻译成英文：你好",
    "x " * (LOCATED_CHARS_MAX + 1),
)
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# What a token is, said by a pattern.
TOKENS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]|\n+")


def sketch_of(text: str) -> Sketch:
    (found,) = sketches([text])
    return found


def tokens(text: str) -> list[str]:
    places = located(text)
    return places.tokens(0, len(places.shingles))


@pytest.mark.parametrize("text", TEXTS)
def test_a_sketch_holds_the_shingles_that_stand_in_the_text_once(text: str) -> None:
    places = located(text)
    counts = Counter(places.shingles.tolist())
    once = [shingle for shingle in places.shingles.tolist() if counts[shingle] == 1]
    whole = sketch_of(text)
    assert whole.order.tolist() == once
    assert list(whole.shingles) == sorted(once)
    assert len(places.starts) == len(places.ends) == len(places.kinds) == len(places.shingles)


@given(st.text(st.one_of(st.characters(), st.sampled_from("aZ9_ .\n\t\x1c漢ก๑²İ\ud800"))))
def test_tokens_are_words_single_characters_of_scripts_without_spaces_marks_and_line_breaks(text: str) -> None:
    assert tokens(text) == TOKENS.findall(text.lower())


def test_a_long_text_is_read_at_its_two_ends() -> None:
    half = SKETCHED_CHARS_MAX // 2
    text = "begin " + "x" * 2 * half + " end"
    assert tokens(text) == ["begin", "x" * (half - len("begin ")), "\0", "x" * (half - len(" end")), "end"]


@pytest.mark.parametrize("code", range(128))
def test_a_letter_beyond_ascii_does_not_change_how_the_others_are_read(code: int) -> None:
    text = f"one{chr(code)}two {chr(code)}{chr(code)} three"
    assert [*tokens(text), "é"] == tokens(f"{text} é")


def test_beside_a_word_all_numbers_are_one_and_among_themselves_they_are_not() -> None:
    one, other = (
        sketch_of(f"order {number} again, then {number} / {number + 1} / {number + 2}") for number in (17, 40)
    )
    shared = np.isin(one.order, other.order)
    assert shared[:4].all()
    assert not shared.all()


def test_shingles_stay_the_same_for_ever() -> None:
    """They lie in rows: another hash would need another format of the rows."""
    assert sketch_of("Order 17 ab").order.tolist() == [57268331862247973, 578593273840943488, 655546148942981022]
