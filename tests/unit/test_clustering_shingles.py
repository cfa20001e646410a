"""Sets of shingles do what Python's sets do."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.compiler import SPREAD
from streams.prompts.clustering.compiled.sets import weigh_shared
from streams.prompts.clustering.compiled.splitting import grouped
from streams.prompts.clustering.shingles import EMPTY, Shingles, held_by
from tests.clustering import array, shingles

SETS = st.frozensets(st.sampled_from([*range(12), 2**60 - 1]))


@given(SETS, SETS)
def test_their_operations_are_those_of_sets(one: frozenset[int], other: frozenset[int]) -> None:
    here, there = shingles(one), shingles(other)
    assert set(here & there) == one & other
    assert set(here - there) == one - other
    assert (here <= there) == (one <= other)
    assert (here == there) == (one == other)
    assert (hash(here) == hash(there)) or one != other
    assert len(here) == here.size == len(one)
    assert all((shingle in here) == (shingle in one) for shingle in other)
    weight, marks = weigh_shared(here.array, array([shingle % 7 for shingle in here]), there.array)
    assert weight == sum(shingle % 7 for shingle in one & other)
    assert marks == sum({bit for shingle in one & other for bit in (1, 2) if shingle & bit})
    assert here.ends == len({1, 2} & {bit for shingle in one for bit in (1, 2) if shingle & bit})


@given(st.lists(SETS, min_size=1, max_size=8), st.integers(1, 8))
def test_what_enough_sets_hold_is_what_counting_says(sets: list[frozenset[int]], least: int) -> None:
    everything = frozenset().union(*sets)
    enough = {shingle for shingle in everything if sum(shingle in one for one in sets) >= least}
    assert set(held_by([shingles(one) for one in sets], least)) == enough


@given(
    st.lists(SETS, min_size=1, max_size=150),
    SETS,
    st.integers(1, 3),
    st.integers(1, 12),
    st.sampled_from([60, 80, 100]),
)
def test_groups_are_those_that_plain_python_makes(
    sets: list[frozenset[int]], constants: frozenset[int], least: int, looked_at: int, percent: int
) -> None:
    most = len(sets) * 9 // 10
    starts = [sum(map(len, sets[:number])) for number in range(len(sets) + 1)]
    held = [shingle for one in sets for shingle in sorted(one)]
    firsts, found, bounds = grouped(
        array(held), array(starts), shingles(constants).array, least, most, looked_at, percent, SPREAD
    )
    shared = set(held_by([shingles(one) for one in sets], least)) - constants

    masks = {shingle: sum(1 << place for place, one in enumerate(sets) if shingle in one) for shingle in shared}
    same: dict[int, list[int]] = {}
    for shingle, mask in masks.items():
        if mask.bit_count() <= most:
            same.setdefault(mask, []).append(shingle)
    keys = sorted(same, key=lambda mask: (-len(same[mask]) * mask.bit_count(), mask))[:looked_at]
    expected: list[tuple[int, set[int]]] = []
    while keys:
        first = keys[0]
        alike = [key for key in keys if 100 * (first & key).bit_count() >= percent * (first | key).bit_count()]
        expected.append((first, {shingle for key in alike for shingle in same[key]}))
        keys = [key for key in keys if key not in alike]

    assert [int.from_bytes(first.astype("<u8").tobytes(), "little") for first in firsts] == [one for one, _ in expected]
    assert [found[start:end].tolist() for start, end in pairwise(bounds)] == [sorted(group) for _, group in expected]


@pytest.mark.parametrize("step", [4, 1 << 30])
def test_sets_of_members_that_all_differ_are_grouped_in_a_moment(step: int) -> None:
    """They may be as many as there are shingles; comparing each with each took seconds.

    Texts can be made up whose shingles all end in the same bits. The two lowest ones are marks anyway.
    """
    chance = np.random.default_rng(1)
    arrays = [step * np.sort(chance.choice(24_000, 2_048, replace=False)) for _ in range(48)]
    assert held_by(list(map(Shingles, arrays)), 3).size > 10_000
    started = time.thread_time()
    firsts, found, bounds = grouped(
        np.concatenate(arrays),
        np.arange(49) * 2_048,
        EMPTY.array,
        least=3,
        most=43,
        looked_at=64,
        percent=80,
        spread=SPREAD,
    )
    assert time.thread_time() - started < 1
    assert 1 < len(firsts) <= 64
    assert all(np.diff(bounds) > 0)
    assert found.size == bounds[-1]
