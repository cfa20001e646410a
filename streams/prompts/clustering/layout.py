"""How one set of shingles lies between another in a prompt.

When some members of a cluster share more than its constants, the shared part is either the value of a slot that
happened to repeat, or wording of a more specific template. Its place tells: a repeated value fills one whole gap
between constants; wording brings constants of its own beside text that still varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress, groupby

import numpy as np

from streams.compiler import Ints
from streams.prompts.clustering.compiled.sets import holding
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.sketch import located

# Changing one word changes three shingles: fewer other shingles than this between two parts is only their seam.
SEAM = 3
QUANTITY_SHINGLES_MAX = SEAM + 2  # that a number and a unit of a word or two change
MARKS_MAX = 4  # marks between a label and the first word of its value
# Marks after which a template usually puts a value: labels, assignments, quotations, brackets.
OPENING = frozenset(":：=\"“”'‘`([{<>|「『《【（")
SENTENCE_ENDS = frozenset(".!?。！？")
_KINDS = ("varying", "constant", "group", "group")  # of a shingle: 1 = the constants hold it, 2 = the group does


class Layout(IntEnum):
    VALUE = 0  # fills one inner gap of the constants
    EDGE = 1  # fills several gaps, or one at an end of the prompt
    WORDING = 2  # stands beside varying text


def lay(order: Ints, group: Shingles, constants: Shingles) -> Layout:
    """Return how `group` lies between the `constants` of a prompt, whose shingles stand in this order."""
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
class Gap:
    """A stretch between constants in which shingles of a group lie.

    `before` are the marks and line breaks that the stretch follows, or the word; empty at the start of the prompt.
    `own` counts the group's shingles in it, `edges` those that it begins or ends with. `content` is its text.
    `quantity` tells that all the group has there is a number with its unit: "200 words" is a value, never wording.
    `closes` tells that it is a last sentence or line after text that varies: values begin alike, but seldom end so.
    """

    before: list[str]
    after: str | None
    own: int
    edges: int
    content: str
    quantity: bool
    closes: bool

    @property
    def labelled(self) -> bool:
        """Whether a label, a quotation mark or a bracket opens the stretch."""
        return any(token in OPENING for token in self.before) and self._ends

    @property
    def delimited(self) -> bool:
        """Whether the text around says that a value stands here: a label, a quotation, a line of its own."""
        if not self.before:
            return self.after is not None and self.after[0] == "\n"
        return self.labelled or (any(token[0] == "\n" for token in self.before) and self._ends)

    @property
    def _ends(self) -> bool:
        return self.after is None or not self.after[0].isalnum()


def gaps(text: str, group: Shingles, constants: Shingles, unique: Shingles) -> list[Gap]:
    """Return the stretches between constants that hold shingles of `group`; `unique` are those its sketch knows.

    One or two constants amid a stretch are a turn of phrase that two values happen to share, unless they are a label.
    """
    places = located(text)
    fixed = holding(places.shingles, constants.array)
    changed = holding(places.shingles, unique.array) & ~fixed & 1
    own = holding(places.shingles, group.array).tolist()
    before = np.cumsum(fixed).tolist()  # constants up to a place and with it
    found: list[Gap] = []
    stretch: list[int] = []  # places of its shingles that are not constants
    last = -1  # the last of them
    for place in np.flatnonzero(changed).tolist():
        if place > last + 1:
            held = before[place] - (before[last] if last >= 0 else 0)
            if held >= SEAM or (held and places.tokens[place] in OPENING):
                found += _gap(places.tokens, stretch, own)
                stretch = []
        stretch.append(place)
        last = place
    return found + _gap(places.tokens, stretch, own)


def _gap(tokens: Sequence[str], changed: list[int], in_group: Sequence[int]) -> list[Gap]:
    """Return the gap that these places make, if shingles of the group lie in it."""
    held = [in_group[place] for place in changed]
    own = sum(held)
    if not own:
        return []
    lead = held.index(0) if own < len(held) else own
    tail = held[::-1].index(0) if own < len(held) else 0
    # A shingle's middle token is constant still where a stretch sets in, and again where it ends.
    start, end = changed[0], changed[-1]
    after = tokens[end] if end + 1 < len(tokens) else None
    content = " ".join(tokens[start + 1 : end])
    counted = own <= QUANTITY_SHINGLES_MAX and any(tokens[place].isdecimal() for place in compress(changed, held))
    first = changed[-tail] if tail else start
    begins = any(token[0] == "\n" or token in SENTENCE_ENDS for token in tokens[max(0, first - 1) : first + 2])
    closes = begins and after is None and not lead and tail == own
    return [Gap(_before(tokens, start), after, own, max(lead, tail), content, counted, closes)]


def _before(tokens: Sequence[str], start: int) -> list[str]:
    """Return the token that a stretch follows, with the marks before it where it is one: values may begin alike."""
    before: list[str] = []
    for token in reversed(tokens[max(0, start - MARKS_MAX + 1) : start + 1] if start else []):
        if token[0].isalnum() and before:
            break
        before.append(token)
        if token[0].isalnum():
            break
    return before


def _runs(order: Ints, group: Shingles, constants: Shingles) -> list[tuple[str, int]]:
    """Return what stands in a prompt one after the other, without seams."""
    # Where both hold a shingle it is the group's.
    kinds = 2 * holding(order, group.array) | holding(order, constants.array)
    merged: list[tuple[str, int]] = []
    for value, run in groupby(kinds.tolist(), key=_KINDS.__getitem__):
        size = len(list(run))
        if value == "varying" and size < SEAM:
            continue
        if merged and merged[-1][0] == value:
            merged[-1] = (value, merged[-1][1] + size)
        else:
            merged.append((value, size))
    return merged
