"""How one set of shingles lies between another in a prompt.

When some members of a cluster share more than its constants, the shared part is either the value of a slot that
happened to repeat, or wording of a more specific template. Its place tells: a repeated value fills one whole gap
between constants; wording brings constants of its own beside text that still varies.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import IntEnum

from streams.prompts.clustering.sketch import located

# Changing one word changes three shingles: fewer other shingles than this between two parts is only their seam.
SEAM = 3
MARKS_MAX = 4  # marks between a label and the first word of its value
# Marks after which a template usually puts a value: labels, assignments, quotations, brackets.
OPENING = frozenset(":：=\"“”'‘`([{<>|「『《【（")


class Layout(IntEnum):
    VALUE = 0  # fills one inner gap of the constants
    EDGE = 1  # fills several gaps, or one at an end of the prompt
    WORDING = 2  # stands beside varying text


def lay(order: list[int], group: AbstractSet[int], constants: AbstractSet[int]) -> Layout:
    """Return how `group` lies between the `constants` of a prompt."""
    fills = 0
    edge = False
    runs = _runs(order, group, constants)
    for place, (kind, size) in enumerate(runs):
        if kind != "group":
            continue
        around = {
            runs[place - 1][0] if place else "outside",
            runs[place + 1][0] if place + 1 < len(runs) else "outside",
        }
        if "varying" in around and size >= SEAM:
            return Layout.WORDING
        fills += 1
        edge = edge or "outside" in around
    return Layout.EDGE if edge or fills > 1 else Layout.VALUE


@dataclass(frozen=True, slots=True)
class Fill:
    """One gap between constants that a group fills: its length in tokens, and the constant tokens on both sides.

    `before` are the marks and line breaks that stand before it, or the word; empty at the start of the prompt.
    """

    before: list[str]
    after: str | None
    length: int

    @property
    def delimited(self) -> bool:
        """Whether the text around says that a value stands here: a label, a quotation, a line of its own."""
        if not self.before:
            return self.after is not None and self.after[0] == "\n"
        opened = any(token in OPENING or token[0] == "\n" for token in self.before)
        return opened and (self.after is None or not self.after[0].isalnum())


def fills(text: str, group: AbstractSet[int], constants: AbstractSet[int], unique: AbstractSet[int]) -> list[Fill]:
    """Return the gaps that `group` fills in a text; `unique` are the shingles that its sketch knows.

    One or two constants amid a fill are a turn of phrase that two values happen to share.
    """
    places = [(token, shingle) for token, shingle in located(text) if shingle in unique]
    spans: list[list[int]] = []
    pending = SEAM  # constants since the last span
    for place, (_, shingle) in enumerate(places):
        if shingle in constants:
            pending += 1
        elif shingle in group:
            if pending >= SEAM:
                spans.append([place, place])
            spans[-1][1] = place
            pending = 0
    # A shingle's middle token is constant still where a group sets in, and again where it ends.
    return [
        Fill(
            _before(places, start),
            places[end][0] if end + 1 < len(places) else None,
            end - start + 1,
        )
        for start, end in spans
    ]


def _before(places: list[tuple[str, int]], start: int) -> list[str]:
    """Return the token that a fill follows, with the marks before it where it is one: values may begin alike."""
    before: list[str] = []
    for token, _ in reversed(places[max(0, start - MARKS_MAX + 1) : start + 1] if start else []):
        if token[0].isalnum() and before:
            break
        before.append(token)
        if token[0].isalnum():
            break
    return before


def _runs(order: list[int], group: AbstractSet[int], constants: AbstractSet[int]) -> list[tuple[str, int]]:
    raw: list[tuple[str, int]] = []
    for shingle in order:
        kind = "group" if shingle in group else "constant" if shingle in constants else "varying"
        if raw and raw[-1][0] == kind:
            raw[-1] = (kind, raw[-1][1] + 1)
        else:
            raw.append((kind, 1))
    merged: list[tuple[str, int]] = []
    for kind, size in raw:
        if kind == "varying" and size < SEAM:
            continue
        if merged and merged[-1][0] == kind:
            merged[-1] = (kind, merged[-1][1] + size)
        else:
            merged.append((kind, size))
    return merged
