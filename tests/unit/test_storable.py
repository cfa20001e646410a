"""What Postgres cannot hold becomes something it can, the same on every path."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres import storable

# Lone surrogates included, and NUL often enough to matter.
ANY_TEXT = st.text(st.characters() | st.sampled_from("\0\\u0\ud83d"))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(ANY_TEXT)
def test_stored_text_is_utf8_without_nul(text: str) -> None:
    stored = storable.text(text)
    assert "\0" not in stored
    assert len(stored) == len(text)
    stored.encode("utf-8")


@given(ANY_JSON)
def test_json_holds_the_same_values_with_each_text_stored_as_text_is(value: object) -> None:
    assert json.loads(storable.json(value)) == _texts_replaced(value)


def test_a_literal_backslash_before_u0000_is_no_nul() -> None:
    assert json.loads(storable.json(["\\u0000", "\0", "\\\0"])) == ["\\u0000", "\u2400", "\\\u2400"]


@pytest.mark.parametrize("at_ms", [-(2**63), -1, 0, 2**63 - 1])
def test_any_moment_of_64_bits_is_a_timestamp(at_ms: int) -> None:
    assert 1 <= storable.moment(at_ms).year <= 9999


def _texts_replaced(value: object) -> object:
    if isinstance(value, str):
        return storable.text(value)
    if isinstance(value, dict):
        return {storable.text(key): _texts_replaced(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_texts_replaced(inner) for inner in value]
    return value
