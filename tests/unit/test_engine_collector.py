"""The collector looks at young objects only, and finds their cycles all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.engine import collector


@pytest.fixture(autouse=True)
def tamed() -> Iterator[None]:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    collector.tame()
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


class Node:
    """Something that can refer to itself."""

    def __init__(self) -> None:
        self.itself = self


def objects(looks: int) -> list[list[None]]:
    """Make as many objects as bring about so many looks at the young ones."""
    return [[] for _ in range((looks + 1) * collector.YOUNG_OBJECTS)]


def test_a_cycle_that_was_let_go_is_found_at_the_next_look() -> None:
    reference = weakref.ref(Node())
    kept = objects(1)
    assert reference() is None
    assert kept


def test_what_outlived_the_looks_at_the_young_is_not_looked_at_again() -> None:
    before = gc.get_freeze_count()
    kept = objects(2 * collector.YOUNG_LOOKS)
    assert gc.get_freeze_count() - before > len(kept) // 3
    assert gc.get_count()[2] <= 1


def test_taming_twice_looks_no_more_often() -> None:
    before = len(gc.callbacks)
    collector.tame()
    assert len(gc.callbacks) == before


def test_objects_without_cycles_are_freed_as_ever() -> None:
    kept = objects(2 * collector.YOUNG_LOOKS)
    node = Node()
    del node.itself
    reference = weakref.ref(node)
    del node, kept
    assert reference() is None
