"""What is known of the slots of a template: types, examples, and how their values are distributed.

Pure. *Names* come from the constants around a slot (`slot_names.py`), *types* from its values (`slot_types.py`).
*Statistics* are a sketch (`Sketch`) of fixed size whatever the number of values.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import ne
from typing import Any

import xxhash

from schemas.events import Slot
from streams.prompts.canonicalization.slot_types import TYPE_SHARE_MIN, share_of, type_of
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tokens import LEFT_OUT

EXAMPLES_MAX = 5
EXAMPLES_CHOSEN_FROM = 20  # the shortest of the first different values
EXAMPLE_CHARS_MAX = 200
KEPT_HASHES = 64  # of the distinct-value sketch: an error of about 12 %
TOP_VALUES = 8
TOP_CHARS_MAX = 80
CHANGES_MIN = 8  # of its value that a slot should have shown, before their lack says anything
BURST_FACTOR = 2  # so many times rarer than by chance: what comes in bursts comes in long ones

LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)]|[A-Za-z][.)]|\w[\w ]{0,20}:)\s", re.MULTILINE)


@dataclass(slots=True)
class Sketch:
    """Counts of a slot's values in bounded space: how many, how long, how many different, which ones most."""

    seen: int = 0
    empty: int = 0
    lengths: dict[int, int] = field(default_factory=dict)  # by number of binary digits of the length
    hashes: array[int] = field(default_factory=lambda: array("Q"))  # the KEPT_HASHES smallest, ascending
    top: dict[str, int] = field(default_factory=dict)
    changes: int = 0  # values that were not the one before
    newest: int = 0  # hash of the last value
    # Those of `top` that were counted least, in descending order; empty: to be looked for. Never stored.
    _rarest: list[str] = field(init=False, repr=False, compare=False, default_factory=list)

    def add(self, value: str) -> None:
        self.seen += 1
        size = len(value)
        if not size:
            self.empty += 1
        digits, lengths, hashes = size.bit_length(), self.lengths, self.hashes
        lengths[digits] = lengths.get(digits, 0) + 1
        mark = xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogatepass"))
        if mark != self.newest:
            self.changes += 1
            self.newest = mark
        if len(hashes) < KEPT_HASHES or mark < hashes[-1]:
            place = bisect_left(hashes, mark)
            if place == len(hashes) or hashes[place] != mark:
                hashes.insert(place, mark)
                del hashes[KEPT_HASHES:]
        if size <= TOP_CHARS_MAX:
            self._count(value)

    def _count(self, value: str) -> None:
        """Count by Space-Saving: a newcomer takes the place, and the count, of the least frequent."""
        top, rarest = self.top, self._rarest
        count = top.get(value, 0)
        if count or len(top) < 2 * TOP_VALUES:
            top[value] = count + 1
            if value in rarest:
                rarest.remove(value)
            return
        if not rarest:
            fewest = min(top.values())
            rarest += sorted([known for known, count in top.items() if count == fewest], reverse=True)
        top[value] = top.pop(rarest.pop()) + 1

    def distinct(self) -> int:
        """Return about how many different values were seen."""
        if len(self.hashes) < KEPT_HASHES:
            return len(self.hashes)
        return round((KEPT_HASHES - 1) * 2**64 / self.hashes[-1])

    def comes_in_bursts(self, newest: Sequence[str]) -> bool:
        """Tell whether the slot holds one value for a while and then another, before the `newest` values and in them.

        So does a document that ten questions are about, or the customer of a batch.
        """
        seen = self.seen - len(newest)
        lately = sum(map(ne, newest, newest[1:]))
        if BURST_FACTOR * lately > len(newest):
            return False
        changes = self.changes - lately
        alike = max(sum(count**2 for count in self.top.values()) / max(1, self.seen) ** 2, 1 / max(1, self.distinct()))
        by_chance = seen * (1 - alike)
        return by_chance >= CHANGES_MIN and BURST_FACTOR * changes <= by_chance

    def summary(self) -> dict[str, Any]:
        most = sorted(self.top.items(), key=lambda item: (-item[1], item[0]))[:TOP_VALUES]
        return {
            "values": self.seen,
            "empty": self.empty,
            "distinct": self.distinct(),
            "length_p50": self._length(50),
            "length_p95": self._length(95),
            "top": [[value, count] for value, count in most if count > 1],
        }

    def _length(self, percent: int) -> int:
        """Return an upper bound of a percentile of the lengths, a power of two less one."""
        reached = 0
        for digits in sorted(self.lengths):
            reached += self.lengths[digits]
            if reached * 100 >= percent * self.seen:
                return (1 << digits) - 1
        return 0


def describe(template: Template, columns: Sequence[Sequence[str]], sketches: Sequence[Sketch]) -> tuple[Slot, ...]:
    """Return the slots of a template with type, examples and statistics.

    Args:
        columns: for each slot its values in the sample texts.
    """
    slots = []
    for position, (name, values, sketch) in enumerate(zip(template.names, columns, sketches, strict=True)):
        filled = [value for value in values if value.strip()]
        kind, detail, share = type_of(filled)
        slots.append(
            Slot(
                name=name,
                position=position,
                type=kind,
                optional=sketch.empty > 0,
                repeated=bool(filled) and share_of(filled, _repeats) >= TYPE_SHARE_MIN,
                confidence=round(share * (1 - 1 / (1 + len(set(filled)))), 4),
                examples=_examples(filled),
                detail=detail,
                statistics=sketch.summary(),
            )
        )
    return tuple(slots)


def _repeats(value: str) -> bool:
    return len(LIST_ITEM.findall(value)) >= 2


def _examples(values: Sequence[str]) -> tuple[str, ...]:
    different: dict[str, None] = {}
    for value in values:
        different[LEFT_OUT.sub("…", value)[:EXAMPLE_CHARS_MAX]] = None
        if len(different) == EXAMPLES_CHOSEN_FROM:
            break
    return tuple(sorted(different, key=lambda value: (len(value), value))[:EXAMPLES_MAX])
