"""What some prompts share at their end beside the constants: a last sentence, or values of one form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.clustering.compiled.layout import SEAM, running_on
from streams.prompts.clustering.layout import Gap, Layout, gaps, lay
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.sketch import located, sketches
from tests.clustering import array, shingles

GUIDE = "You guide travellers. I tell you where I am, and you name a place nearby. My first request: "
TEXTS = st.lists(
    st.sampled_from(
        ["a", "b", "c_d", "_", "17", "9", ":", "“", ".", "\n", "\n\n", "漢", "字", "ก", "3à", "]", "”", "，"]
    ),
    max_size=30,
).map(" ".join)
OPENING = frozenset(":：=\"“”'‘`([{<>|「『《【（")
SENTENCE_ENDS = frozenset(".!?。！？")
VALUE_ENDS = frozenset(":：;；\"”'’)]}>|」』】）")


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


class Plain(NamedTuple):
    """What is true of a gap."""

    own: int
    edges: int
    content: str
    after: str | None
    sets_in: bool
    inner: bool
    labelled: bool
    delimited: bool
    quantity: bool
    closes: bool


@given(TEXTS, st.data())
def test_gaps_are_those_that_plain_python_finds(text: str, data: st.DataObject) -> None:
    held = sorted(set(located(text).shingles.tolist()))
    draw = st.lists(st.sampled_from([*held, 4]), unique=True)
    group, constants, unique = (shingles(data.draw(draw)) for _ in range(3))
    found = [
        Plain(**{name: getattr(gap, name) for name in Plain._fields}) for gap in gaps(text, group, constants, unique)
    ]
    assert found == plain_gaps(text, group, constants, unique)


def plain_gaps(text: str, group: Shingles, constants: Shingles, unique: Shingles) -> list[Plain]:
    places = located(text)
    order, tokens = places.shingles.tolist(), places.tokens(0, places.shingles.size)
    changed = [place for place, one in enumerate(order) if one in unique and one not in constants]
    stretches: list[list[int]] = []
    for place in changed:
        between = sum(one in constants for one in order[stretches[-1][-1] : place]) if stretches else SEAM
        if between >= SEAM or (between and tokens[place] in OPENING):
            stretches.append([])
        stretches[-1].append(place)
    held = [[order[place] in group for place in stretch] for stretch in stretches]
    return [plain_gap(tokens, stretch, own) for stretch, own in zip(stretches, held, strict=True) if any(own)]


def plain_gap(tokens: Sequence[str], stretch: Sequence[int], held: Sequence[bool]) -> Plain:
    start, end, own = stretch[0], stretch[-1], sum(held)
    whole = all(held)
    lead = own if whole else held.index(False)
    tail = 0 if whole else held[::-1].index(False)
    after = tokens[end] if end + 1 < len(tokens) else None
    before: list[str] = []
    for token in reversed(tokens[max(0, start - 3) : start + 1] if start else []):
        if token[0].isalnum() and before:
            break
        before.append(token)
        if token[0].isalnum():
            break
    ends = after is None or not after[0].isalnum()
    labelled = ends and any(token in OPENING for token in before)
    on_a_line = ends and any(token[0] == "\n" for token in before)
    delimited = labelled or on_a_line if before else after is not None and after[0] == "\n"
    numbers = [place for place, one in zip(stretch, held, strict=True) if one and tokens[place].isdecimal()]
    first = stretch[-tail] if tail else start
    begins = any(token[0] == "\n" or token in SENTENCE_ENDS for token in tokens[max(0, first - 1) : first + 2])
    return Plain(
        own=own,
        edges=max(lead, tail),
        content=" ".join(tokens[start + 1 : end]),
        after=after,
        sets_in=bool(before),
        inner=bool(before) and after is not None,
        labelled=labelled,
        delimited=delimited,
        quantity=own <= SEAM + 2 and bool(numbers),
        closes=begins and after is None and not lead and tail == own,
    )


@given(st.lists(st.integers(1, 40), unique=True), st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_a_layout_is_what_plain_python_says(order: list[int], group: set[int], constants: set[int]) -> None:
    kinds = ["group" if one in group else "constant" if one in constants else "varying" for one in order]
    runs = [(kind, list(run)) for kind, run in groupby(kinds)]
    whole = [one for kind, run in runs if kind != "varying" or len(run) >= SEAM for one in run]
    merged = [("outside", 0), *[(kind, len(list(run))) for kind, run in groupby(whole)], ("outside", 0)]
    edges = []
    expected = Layout.VALUE
    for (before, _), (kind, size), (after, _) in zip(merged, merged[1:], merged[2:], strict=False):
        if kind == "group":
            edges.append("outside" in (before, after))
            if size >= SEAM and "varying" in (before, after):
                expected = Layout.WORDING
    if expected is not Layout.WORDING and (len(edges) > 1 or any(edges)):
        expected = Layout.EDGE
    assert lay(array(order), shingles(group), shingles(constants)) is expected


@given(TEXTS, st.data(), st.booleans())
def test_text_runs_on_where_plain_python_says_so(text: str, data: st.DataObject, distinctive: bool) -> None:
    places = located(text)
    order, tokens = places.shingles.tolist(), places.tokens(0, places.shingles.size)
    constants = shingles(data.draw(st.lists(st.sampled_from([*sorted(set(order)), 4]), unique=True)))
    expected = place = 0
    for varies, run in groupby(order, key=lambda shingle: shingle not in constants):
        start, place = place, place + len(list(run))
        stretch = tokens[start:place]
        if varies and start and len(stretch) >= SEAM and stretch[0][0].isalnum() and crosses(stretch, distinctive):
            expected += len(stretch)
    assert running_on(places.shingles, places.kinds, constants.array, distinctive) == expected


def crosses(stretch: Sequence[str], distinctive: bool) -> bool:
    for token, following in pairwise(stretch[1:]):
        if token in VALUE_ENDS:
            return False
        if token in SENTENCE_ENDS:
            return not distinctive or following[0] != "\n"
        if token[0] == "\n":
            return not distinctive
    return False
