"""Drift: the statistic against every deal there is, and how often chance alone raises an alarm."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from streams.prompts.canonicalization.cluster import BASE_MAX, RECENT_MAX
from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.drift import DEVIATIONS_MIN, _deal, deviations_between
from streams.prompts.canonicalization.permutation import moments, sums_of
from tests.canonical import CITIES, TOPICS, dice


@pytest.mark.parametrize(("things", "first"), [(5, 2), (7, 3), (8, 4), (9, 2), (10, 7)])
def test_mean_and_spread_are_those_of_every_deal_there_is(things: int, first: int) -> None:
    chance = np.random.default_rng(things)
    alike = np.rint(chance.normal(3_000, 5_000, (things, things)))
    alike += alike.T
    np.fill_diagonal(alike, 0)
    dealt = []
    for hand in combinations(range(things), first):
        deal = np.full(things, -float(first))
        deal[list(hand)] = things - first
        dealt.append(deal @ alike @ deal)
    mean, spread = moments(sums_of(alike), _deal(first, things - first))
    assert abs(mean - np.mean(dealt)) <= 2
    assert abs(spread - np.std(dealt)) <= 2


def values_of_a_slot(number: int) -> list[str]:
    """Return values that all come from the same place: from a few to ever new ones, short and long, with numbers."""
    chance = dice(number)
    kinds = [
        lambda: chance.choice(CITIES),
        lambda: f"{chance.choice(TOPICS)} in {chance.choice(CITIES)}",
        lambda: str(chance.randrange(10 ** chance.randrange(1, 7))),
        lambda: " ".join(chance.choices(TOPICS, k=chance.randrange(1, 9))),
        lambda: f"{chance.choice(CITIES)}, {chance.randrange(1, 29)} May: {chance.choice(TOPICS)}?",
    ]
    return [kinds[number % len(kinds)]() for _ in range(BASE_MAX + RECENT_MAX)]


def test_values_from_the_same_place_hardly_ever_raise_an_alarm() -> None:
    found = deviations_between(Columns([values_of_a_slot(number) for number in range(1_500)], BASE_MAX), range(1_500))
    assert sum(deviations >= DEVIATIONS_MIN for deviations in found) <= 1, "one in 5,000 is expected"
    assert abs(np.mean(found)) < 0.1
    assert abs(np.std(found) - 1) < 0.1


def test_values_from_elsewhere_raise_one() -> None:
    for number in range(20):
        before, after = values_of_a_slot(5 * number)[:BASE_MAX], values_of_a_slot(5 * number + 1)[BASE_MAX:]
        assert deviations_between(Columns([[*before, *after]], BASE_MAX), [0]) >= [DEVIATIONS_MIN]
