"""The index of shingles: what it counts is what its holders hold, whatever came and went."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.compiled.index import ARENA_USED, weights
from streams.prompts.clustering.index import ANY, Index
from tests.clustering import shingles

HOLDERS = st.dictionaries(st.integers(1, 40), st.frozensets(st.integers(0, 15)), max_size=12)
# A holder comes, or the n-th of those that are there goes: long histories, so that runs grow, shrink and move.
HISTORY = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 400), st.frozensets(st.sampled_from([*range(6), 64, 2**59]), max_size=5)),
        st.integers(0, 300),
    ),
    max_size=120,
)


def index_of(holders: dict[int, frozenset[int]]) -> Index:
    index = Index()
    for number, held in holders.items():
        index.insert(shingles(held), number)
    return index


def votes(index: Index, asked: frozenset[int] | set[int], votes_min: int = 1) -> dict[int, int]:
    return index.votes(shingles(asked).array, votes_min)


def counted(holders: dict[int, frozenset[int]], asked: frozenset[int]) -> dict[int, int]:
    return {number: len(held & asked) for number, held in holders.items() if held & asked}


def test_votes_count_the_shingles_asked_for_that_each_number_holds() -> None:
    index = index_of({1: frozenset({10, 11, 12}), 2: frozenset({11, 12}), 3: frozenset({13})})
    assert votes(index, {10, 11, 12, 99}) == {1: 3, 2: 2}


def test_those_with_few_votes_are_left_out_if_asked() -> None:
    index = index_of({1: frozenset({10, 11}), 2: frozenset({11, 12}), 3: frozenset({12})})
    assert votes(index, {10, 11, 12}, votes_min=2) == {1: 2, 2: 2}


def test_the_foremost_hold_the_most_and_of_equals_the_smallest_number_comes_first() -> None:
    index = index_of({5: frozenset({1, 2}), 9: frozenset({1, 2, 3}), 3: frozenset({2, 3}), 4: frozenset({3})})
    assert index.foremost(shingles({1, 2, 3}).array, ANY, 3) == ([[9, 3], [3, 2], [5, 2]], True)
    assert index.foremost(shingles({1, 2, 3}).array, 2, 3) == ([[5, 1], [9, 1]], False)


def test_what_is_not_held_cannot_be_taken_out() -> None:
    index = index_of({1: frozenset({10, 11}), 2: frozenset({11})})
    with pytest.raises(KeyError, match="number 2 does not hold shingle 10"):
        index.take_out(shingles({10}), 2)
    with pytest.raises(KeyError, match="number 3 does not hold shingle 11"):
        index.take_out(shingles({11}), 3)
    with pytest.raises(KeyError, match="shingle 12"):
        index.take_out(shingles({12}), 1)


@given(HOLDERS, st.sets(st.integers(1, 40)), st.frozensets(st.integers(0, 20)))
def test_votes_are_what_plain_counting_gives_in_any_order_of_coming_and_going(
    holders: dict[int, frozenset[int]], gone: set[int], asked: frozenset[int]
) -> None:
    index = index_of(holders)
    for number in gone & holders.keys():
        index.take_out(shingles(holders[number]), number)
    assert votes(index, asked) == counted(
        {number: held for number, held in holders.items() if number not in gone}, asked
    )


@given(HISTORY)
def test_a_long_history_leaves_just_what_is_still_held(
    history: list[tuple[int, frozenset[int]] | int],
) -> None:
    index, holders = Index(), dict[int, frozenset[int]]()
    for event in history:
        if isinstance(event, tuple):
            number, held = event
            if number not in holders:
                holders[number] = held
                index.insert(shingles(held), number)
        elif holders:
            number = sorted(holders)[event % len(holders)]
            index.take_out(shingles(holders.pop(number)), number)
    everything = frozenset({*range(6), 64, 2**59})
    assert votes(index, everything) == counted(holders, everything)
    held_by = Counter(shingle for held in holders.values() for shingle in held)
    asked = np.array(sorted(everything))
    none = Index()
    bits = weights(
        index.heads, index.entries, index.meta, none.heads, none.entries, none.meta, 1, -np.arange(400), 0, asked
    )
    assert bits.tolist() == [held_by[shingle] for shingle in asked.tolist()]


def test_a_neighbour_is_found_among_many_that_hold_the_same() -> None:
    holders = {number: frozenset({4, 8 * (number % 9)}) for number in range(1, 90)}
    near, shared, places, _ = index_of(holders).neighbours(np.array([4, 24]), 3, 64, 1, 4)
    assert near.tolist() == [84, 75, 66, 57]
    assert shared.tolist() == [[1, 1]] * 4
    assert places.tolist() == [0, 1]


def test_what_comes_and_goes_again_and_again_takes_no_more_room() -> None:
    index, popular = Index(), shingles({7, 8})
    for number in range(1, 70):
        index.insert(popular, number)
    used = 0
    for number in range(70, 5_000):
        index.insert(popular, number)
        index.insert(shingles({number << 3}), number)
        index.take_out(popular, number - 69)
        index.take_out(shingles({number << 3}), number)
        if number == 200:
            used = int(index.meta[ARENA_USED])
    assert index.meta[ARENA_USED] == used
    assert len(index.entries) < 100


@given(HOLDERS, st.lists(st.integers(0, 15), unique=True, min_size=1), st.integers(1, 6))
def test_neighbours_are_those_that_share_the_most_and_the_newer_ones_of_equals(
    holders: dict[int, frozenset[int]], order: list[int], newest: int
) -> None:
    newcomer = 41
    index = index_of({**holders, newcomer: frozenset(order)})
    near, shared, places, amounts = index.neighbours(np.array(order), newcomer, newest, 1, 4)
    beside = {one: sorted(number for number, held in holders.items() if one in held) for one in order}
    assert [order[place] for place in places] == [one for one in order if beside[one]]
    assert amounts.tolist() == [min(newest, len(beside[one]) + 1) for one in order if beside[one]]
    seen = Counter(number for one in order for number in [*beside[one], newcomer][-newest:] if number != newcomer)
    assert near.tolist() == sorted(seen, key=lambda number: (-seen[number], -number))[:4]
    assert shared.tolist() == [
        [int(one in holders[number]) for one in order if beside[one]] for number in near.tolist()
    ]
