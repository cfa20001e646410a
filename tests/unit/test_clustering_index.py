"""The index of shingles: what it counts is what its holders hold, whatever came and went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.state import SortedIndex

HOLDERS = st.dictionaries(st.integers(1, 40), st.frozensets(st.integers(0, 15)), max_size=12)


def index_of(holders: dict[int, frozenset[int]]) -> SortedIndex:
    index = SortedIndex()
    for number, shingles in holders.items():
        index.insert(shingles, number)
    return index


def test_votes_count_the_shingles_asked_for_that_each_number_holds() -> None:
    index = index_of({1: frozenset({10, 11, 12}), 2: frozenset({11, 12}), 3: frozenset({13})})
    assert index.votes({10, 11, 12, 99}) == {1: 3, 2: 2}


def test_votes_leave_out_shingles_that_too_many_hold() -> None:
    index = index_of({1: frozenset({10, 11}), 2: frozenset({11, 12}), 3: frozenset({11, 12})})
    assert index.votes({10, 11, 12}, postings_max=2) == {1: 1, 2: 1, 3: 1}


def test_a_vote_that_is_replaced_is_not_added_to() -> None:
    votes = index_of({1: frozenset({10, 11}), 2: frozenset({11})}).votes({10, 11})
    votes.update({1: 7})
    assert votes == {1: 7, 2: 1}


@given(HOLDERS, st.sets(st.integers(1, 40)), st.frozensets(st.integers(0, 20)))
def test_votes_are_what_plain_counting_gives_in_any_order_of_coming_and_going(
    holders: dict[int, frozenset[int]], gone: set[int], asked: frozenset[int]
) -> None:
    index = index_of(holders)
    for number in gone & holders.keys():
        index.take_out(holders[number], number)
    left = {number: len(held & asked) for number, held in holders.items() if number not in gone}
    assert index.votes(asked) == {number: count for number, count in left.items() if count}
