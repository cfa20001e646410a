"""Words that are new among the newest values: found by counting in machine code, or passed over rightly."""

from __future__ import annotations

import sys
from random import Random

import numpy as np
import pytest

from streams.prompts.canonicalization import evolution
from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.compiled.words import BYTES_MAX, share_news
from streams.prompts.canonicalization.evolution import (
    AGREEING_MIN,
    LETTERS,
    WORD,
    _familiar,
    _is_new,
    sharing_new_words,
)
from streams.prompts.canonicalization.slots import Sketch
from tests.canonical import TOPICS, dice

MARKS = (" ", " ", "\n", ", ", "_", "-", "")
FOREIGN = ("Grüße", "日本語", "\udcff", "naïve", "é", "te’a", "\U00020000\U00020001", "a\U0001f600b", "½²")


def texts_of(chance: Random, count: int, common: list[str], rate: float, words: list[str]) -> list[str]:
    """Return texts of some words, many of which hold the common ones."""
    texts = []
    for _ in range(count):
        held = chance.choices(words, k=chance.randrange(6)) + [word for word in common if chance.random() < rate]
        chance.shuffle(held)
        texts.append("".join(word + chance.choice(MARKS) for word in held))
    return texts


def columns_of(chance: Random, split: int, newest: int) -> Columns:
    slots = []
    for _ in range(chance.randrange(1, 5)):
        words = ["tea", "Tea", "te", "a", "7", "ea", *TOPICS, *(FOREIGN if chance.random() < 0.2 else ())]
        common = chance.sample(words, k=3)
        before = texts_of(chance, split, common, chance.choice((0, 0.1, 0.4)), words)
        slots.append(before + texts_of(chance, newest, common, chance.choice((0.3, 0.8, 1)), words))
    return Columns(slots, split)


def told_of(columns: Columns, newest: int) -> list[bool]:
    told = np.zeros(len(columns.values), dtype=np.bool_)
    familiar, lately = _familiar(newest, columns.split)
    share_news(columns.written, columns.sizes, columns.split, AGREEING_MIN, familiar, lately, LETTERS, told)
    return [bool(answer) for answer in told]


@pytest.mark.parametrize("newest", [8, 11, 16])
@pytest.mark.parametrize("split", [20, 24])
def test_values_share_news_if_counting_their_words_says_so(newest: int, split: int) -> None:
    chance = dice(newest + split)
    answers = []
    for _ in range(150):
        columns = columns_of(chance, split, newest)
        expected = [shares_news(values, split) for values in columns.values]
        assert told_of(columns, newest) == expected
        answers += expected
    assert len(answers) / 12 < sum(answers) < len(answers) * 11 / 12, "both are seen often"


def shares_news(values: list[str], split: int) -> bool:
    earlier, newest = ([set(WORD.findall(value)) for value in part] for part in halves(values, split))
    for window in (AGREEING_MIN, len(newest)):
        for word in set().union(*newest):
            held = sum(word in words for words in newest[-window:])
            agree = held == window if window == AGREEING_MIN else held >= AGREEING_MIN
            if agree and _is_new(held, window, sum(word in words for words in earlier), split):
                return True
    return False


def halves(values: list[str], split: int) -> tuple[list[str], list[str]]:
    return values[:split], values[split:]


def test_no_slot_is_passed_over_that_shares_a_new_word(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = dice(5)
    cases = [columns_of(chance, 24, 16) for _ in range(200)]
    names = [str(number) for number in range(16)]

    def found() -> list[list[list[str]]]:
        return [list(sharing_new_words(each, names, 24, [Sketch() for _ in each.values])) for each in cases]

    with_passing_over = found()
    monkeypatch.setattr(evolution, "share_news", lambda *arguments: arguments[-1].fill(True))
    assert with_passing_over == found()
    assert 20 < sum(map(bool, with_passing_over)) < 180


def test_what_would_take_long_to_count_is_left_to_the_caller() -> None:
    words = [f"{number:x}" for number in range(BYTES_MAX // 16)]
    assert told_of(Columns([[*[""] * 8, *[" ".join(words)] * 8]], 8), 8) == [True]
    assert told_of(Columns([["x y"] * 8 + ["x y z"] * 8, [""] * 16], 8), 8) == [False, False]


def test_slots_without_any_value_share_nothing() -> None:
    assert told_of(Columns([], 0), 0) == []
    assert list(sharing_new_words(Columns([], 0), [], 8, [Sketch()])) == []


def test_letters_are_what_words_are_made_of() -> None:
    everything = [chr(code) for code in range(sys.maxunicode + 1)]
    of_words = [len(WORD.findall(2 * character)) == 1 for character in everything]
    assert of_words[: LETTERS.size] == LETTERS.tolist()
    assert not any(of_words[LETTERS.size :])
