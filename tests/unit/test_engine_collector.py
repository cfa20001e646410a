"""The collector leaves old objects alone, and finds cycles among the young ones all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.engine import collector


@pytest.fixture(autouse=True)
def tamed() -> Iterator[None]:
    thresholds = gc.get_threshold()
    collector.tame()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Node:
    """Something that can refer to itself."""

    def __init__(self) -> None:
        self.itself = self


def objects(looks: int) -> list[list[None]]:
    """Make as many objects as bring about so many looks at the young ones."""
    return [[] for _ in range((looks + 1) * collector.YOUNG_OBJECTS)]


def full_looks() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_a_cycle_that_was_let_go_is_found_at_the_next_look() -> None:
    reference = weakref.ref(Node())
    kept = objects(1)
    assert reference() is None
    assert kept


def test_old_objects_are_left_alone_however_many_come() -> None:
    before = full_looks()
    kept = objects(40 * collector.YOUNG_LOOKS)
    assert full_looks() == before
    assert kept


def test_an_old_cycle_is_found_when_everything_is_looked_at() -> None:
    node = Node()
    reference = weakref.ref(node)
    kept = objects(4 * collector.YOUNG_LOOKS)
    del node
    more = objects(4 * collector.YOUNG_LOOKS)
    assert reference() is not None, "it was looked at: what is old is not left alone"
    gc.collect()
    assert reference() is None
    assert kept
    assert more
