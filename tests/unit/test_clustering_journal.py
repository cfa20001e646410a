"""What records say about shares."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.journal import SHARE_DIGITS, rounded


@given(st.one_of(st.floats(-1, 1), st.integers(-20_001, 20_001).map(lambda steps: steps / 20_000)))
def test_a_share_is_rounded_as_python_rounds(share: float) -> None:
    assert rounded(share) == round(share, SHARE_DIGITS)


@pytest.mark.parametrize("middle", [step / 20_000 for step in (-3, -1, 1, 3, 1_001, 12_345, 19_999)])
def test_so_is_what_lies_about_the_middle_between_two_steps(middle: float) -> None:
    for share in (middle, math.nextafter(middle, 1), math.nextafter(middle, -1)):
        assert rounded(share) == round(share, SHARE_DIGITS)


def test_a_zero_keeps_its_sign() -> None:
    assert math.copysign(1, rounded(-1e-9)) == -1
