"""Verdicts and strikes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SettingsInvalid, StateIncompatible
from schemas.prompts import PromptRejected
from streams.prompts.moderation.logic import (
    RECENT_IDS_MAX,
    Policy,
    Strikes,
    decode_strikes,
    encode_strikes,
    rejected,
    strike,
    verdict,
)
from tests.wire import a_prompt

CATEGORIES = ("hate", "sexual")
POLICY = Policy(
    version="7",
    threshold=0.5,
    categories={"sexual": 0.8},
    tenants={"school": {"all": 0.2, "hate": 0.1}, "clinic": {"sexual": 0.95}},
)


@pytest.mark.parametrize(
    ("tenant", "category", "threshold"),
    [
        ("anyone", "hate", 0.5),  # the general one
        ("anyone", "sexual", 0.8),  # the category's
        ("school", "sexual", 0.2),  # the tenant's for all, before the category's
        ("school", "hate", 0.1),  # the tenant's for this category, before its own for all
        ("clinic", "sexual", 0.95),
        ("clinic", "hate", 0.5),
    ],
)
def test_the_most_specific_threshold_counts(tenant: str, category: str, threshold: float) -> None:
    assert POLICY.threshold_of(tenant, category) == threshold


def test_a_score_at_the_threshold_rejects() -> None:
    moderation = verdict({"sexual": 0.1, "hate": 0.5}, POLICY, "anyone", "offline-1")
    assert not moderation.allowed
    assert moderation.categories == ("hate",)
    assert moderation.reason == "hate 0.5 (rejected from 0.5)"
    assert (moderation.moderator, moderation.policy_version) == ("offline-1", "7")


def test_a_score_below_every_threshold_passes_and_is_kept() -> None:
    moderation = verdict({"sexual": 0.79, "hate": 0.49}, POLICY, "anyone", "offline-1")
    assert moderation.allowed
    assert moderation.scores == {"hate": 0.49, "sexual": 0.79}
    assert (moderation.reason, moderation.categories) == ("", ())


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_score_that_is_shown_is_the_score_that_decided(score: float, threshold: float) -> None:
    moderation = verdict({"hate": score}, Policy(version="1", threshold=threshold), "anyone", "m")
    assert moderation.allowed == (moderation.scores["hate"] < threshold)


def test_a_policy_for_a_category_nobody_scores_is_refused() -> None:
    POLICY.require_categories(CATEGORIES)
    with pytest.raises(SettingsInvalid, match="sexual") as raised:
        POLICY.require_categories(("hate", "violence"))
    assert "violence" in raised.value.hint


def test_what_is_kept_of_a_rejected_prompt_holds_nothing_of_its_text() -> None:
    prompt = a_prompt(text="something unspeakable")
    record = rejected(prompt, verdict({"hate": 0.9}, POLICY, prompt.tenant, "m"))
    assert record.text_chars == len(prompt.text)
    assert len(record.text_sha256) == 64
    assert "unspeakable" not in record.model_dump_json()
    assert (record.partition, record.offset) == (prompt.partition, prompt.offset)


def a_rejection(number: int, *scores: tuple[str, float]) -> PromptRejected:
    prompt = a_prompt(number)
    return rejected(prompt, verdict(dict(scores), POLICY, prompt.tenant, "m"))


def test_a_prompt_that_offends_twice_is_one_strike_in_two_categories() -> None:
    row = strike(Strikes(), a_rejection(1, ("hate", 0.9), ("sexual", 0.9)))
    row = strike(row, a_rejection(2, ("hate", 0.9), ("sexual", 0.1)))
    assert row.prompts == 2
    assert row.categories == {"hate": 2, "sexual": 1}
    assert row.last_prompt_id == "prompt-2"
    assert row.last_at_ms == a_prompt(2).received_at_ms


def test_a_prompt_that_comes_again_is_no_second_strike() -> None:
    row = Strikes()
    for number in (1, 2, 1, 3, 2):
        row = strike(row, a_rejection(number, ("hate", 0.9)))
    assert (row.prompts, row.categories) == (3, {"hate": 3})
    for number in range(4, RECENT_IDS_MAX + 4):
        row = strike(row, a_rejection(number, ("hate", 0.9)))
    assert (row.prompts, len(row.recent_ids)) == (RECENT_IDS_MAX + 3, RECENT_IDS_MAX)


def test_a_row_of_strikes_survives_its_table() -> None:
    row = strike(Strikes(), a_rejection(1, ("hate", 0.9)))
    assert decode_strikes(encode_strikes(row)) == row
    assert decode_strikes(None) == Strikes()


def test_a_row_of_another_format_is_refused() -> None:
    row = encode_strikes(Strikes()).replace(b'"format":2', b'"format":1')
    with pytest.raises(StateIncompatible, match="format is 1"):
        decode_strikes(row)
