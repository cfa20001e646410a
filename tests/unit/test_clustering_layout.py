"""What some prompts share at their end beside the constants: a last sentence, or values of one form."""

from __future__ import annotations

import pytest

from streams.prompts.clustering.layout import Gap, gaps
from streams.prompts.clustering.sketch import sketches

GUIDE = "You guide travellers. I tell you where I am, and you name a place nearby. My first request: "


def last_gap(one: str, alike: str, other: str) -> Gap:
    """Return the last gap of the first text; the second shares more than the constants with it, the third does not."""
    first, second, third = (sketch.shingles for sketch in sketches((one, alike, other)))
    constants = first & second & third
    return gaps(one, (first & second) - constants, constants, first)[-1]


@pytest.mark.parametrize("begin", ["\n", " ", "? "])
def test_a_last_sentence_or_line_that_follows_a_value_closes_a_prompt(begin: str) -> None:
    ending = f"{begin}Answer with the name alone, and give your reason." if begin != " " else ". Give the name alone."
    gap = last_gap(
        f"{GUIDE}a quiet park in Lisbon{ending}", f"{GUIDE}some old bookshop{ending}", f"{GUIDE}coffee by the sea"
    )
    assert gap.closes


def test_values_of_one_form_close_no_prompt() -> None:
    form = "{} station, with a budget of 40 euros and two hours"
    gap = last_gap(f"{GUIDE}{form.format('Porto')}", f"{GUIDE}{form.format('Gdansk')}", f"{GUIDE}coffee by the sea")
    assert gap.own
    assert not gap.closes


def test_a_value_that_two_prompts_share_closes_none_of_them() -> None:
    gap = last_gap(*[f"{GUIDE}\na quiet park in Lisbon. It may be small."] * 2, f"{GUIDE}\ncoffee by the sea")
    assert gap.own
    assert not gap.closes
