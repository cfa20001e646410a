"""The sketch of a text: what it is made of does not depend on the way it was computed."""

from __future__ import annotations

import pytest

from streams.prompts.clustering.sketch import LOCATED_CHARS_MAX, Sketch, located, pack, sketch, tokens, unpack

TEXTS = (
    "",
    "word",
    "Translate into French: “good morning” – please!",
    "Total: 17 of 23 items\n\nnext line, again 17 of 23 items",
    "a b c a b c a b c",
    "请把下面的句子翻译成英文：你好",
    "x " * (LOCATED_CHARS_MAX + 1),
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_packed_sketch_is_the_one_it_was_packed_from(text: str) -> None:
    whole = sketch(text)
    assert unpack(pack(whole)) == whole


@pytest.mark.parametrize("text", TEXTS)
def test_a_sketch_holds_the_shingles_that_stand_in_the_text_once(text: str) -> None:
    places = located(text)
    once = [shingle for shingle in places.shingles if places.shingles.count(shingle) == 1]
    assert sketch(text) == Sketch(once, frozenset(once))
    assert len(places.tokens) == len(places.shingles)


@pytest.mark.parametrize("code", range(128))
def test_a_letter_beyond_ascii_does_not_change_how_the_others_are_read(code: int) -> None:
    text = f"one{chr(code)}two {chr(code)}{chr(code)} three"
    assert [*tokens(text), "é"] == tokens(f"{text} é")
