"""What a newcomer and its neighbours may be filled from: the proposals are those that plain Python makes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.compiled.founding import proposals

PLACES = 6
ROWS = st.lists(st.frozensets(st.integers(0, PLACES - 1)), min_size=1, max_size=7)
AMOUNTS = st.lists(st.integers(1, 6), min_size=PLACES, max_size=PLACES)
BITS = st.lists(st.integers(1, 4), min_size=PLACES, max_size=PLACES)
COMMON = (2, 4)
LOOKED_AT, HEAVIEST, PERCENT = 5, 2, 60


@given(ROWS, AMOUNTS, BITS, st.integers(0, 3), st.integers(1, 3), st.integers(1, 8))
def test_proposals_are_those_that_plain_python_makes(
    held: list[frozenset[int]], amounts: list[int], bits: list[int], rows_min: int, size_min: int, weight_min: int
) -> None:
    def weight(part: frozenset[int]) -> int:
        return sum(bits[place] for place in part)

    expected = {}
    parts = sorted(held[:LOOKED_AT], key=weight, reverse=True)[:HEAVIEST]
    parts += [frozenset(place for place, amount in enumerate(amounts) if amount > common) for common in COMMON]
    for part in parts:
        if len(part) < size_min or weight(part) < weight_min:
            continue
        rows = tuple(row for row, one in enumerate(held) if 100 * len(one & part) >= PERCENT * len(part))
        counts = [sum(place in held[row] for row in rows) for place in range(PLACES)]
        needed = max(1, -(-PERCENT * len(rows) // 100))
        agreed = frozenset(place for place, count in enumerate(counts) if count >= needed)
        if len(rows) >= rows_min and len(agreed) >= size_min and weight(agreed) >= weight_min:
            expected[rows] = agreed

    shared = np.array([[place in one for place in range(PLACES)] for one in held], dtype=np.uint8)
    proposed, witnesses, weights = proposals(
        shared, np.array(amounts), np.array(bits), LOOKED_AT, HEAVIEST, np.array(COMMON),
        PERCENT, rows_min, size_min, weight_min,
    )  # fmt: skip
    found = [tuple(np.flatnonzero(row).tolist()) for row in witnesses]
    assert found == list(expected)
    assert [frozenset(np.flatnonzero(row).tolist()) for row in proposed] == list(expected.values())
    assert weights.tolist() == [weight(part) for part in expected.values()]
