"""How one set of shingles lies between another in a prompt.

When some members of a cluster share more than its constants, the shared part is either the value of a slot that
happened to repeat, or wording of a more specific template. Its place tells: a repeated value fills one whole gap
between constants; wording brings constants of its own beside text that still varies.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from streams.compiler import Ints
from streams.prompts.clustering.compiled import layout as loops
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.sketch import Places, located


class Layout(IntEnum):
    VALUE = loops.VALUE  # fills one inner gap of the constants
    EDGE = loops.EDGE  # fills several gaps, or one at an end of the prompt
    WORDING = loops.WORDING  # stands beside varying text


_LAYOUTS = tuple(Layout)


def lay(order: Ints, group: Shingles, constants: Shingles) -> Layout:
    """Return how `group` lies between the `constants` of a prompt, whose shingles stand in this order."""
    return _LAYOUTS[loops.lay(order, group.array, constants.array)]


class Gap(NamedTuple):
    """A stretch between constants in which shingles of a group lie.

    `start` and `end` are the first and the last token of it, `own` counts the group's shingles in it, `edges` those
    that it begins or ends with. `signs` tell the rest, a bit each.
    """

    places: Places
    start: int
    end: int
    own: int
    edges: int
    signs: int

    @property
    def inner(self) -> bool:
        """Whether something stands before the stretch, and after it."""
        return self.signs & _INNER == _INNER

    @property
    def sets_in(self) -> bool:
        """Whether something stands before the stretch: a word, or marks and line breaks."""
        return bool(self.signs & loops.SETS_IN)

    @property
    def labelled(self) -> bool:
        """Whether a label, a quotation mark or a bracket opens the stretch."""
        return bool(self.signs & loops.LABELLED)

    @property
    def delimited(self) -> bool:
        """Whether the text around says that a value stands here: a label, a quotation, a line of its own."""
        return bool(self.signs & loops.DELIMITED)

    @property
    def quantity(self) -> bool:
        """Whether all the group has there is a number with its unit: "200 words" is a value, never wording."""
        return bool(self.signs & loops.QUANTITY)

    @property
    def closes(self) -> bool:
        """Whether it is a last sentence or line after text that varies: values begin alike, but seldom end so."""
        return bool(self.signs & loops.CLOSES)

    @property
    def content(self) -> str:
        """The text between the tokens where the constants set in again."""
        return " ".join(self.places.tokens(self.start + 1, self.end))

    @property
    def after(self) -> str | None:
        """The token that follows the stretch; a shingle's middle token is constant still where it begins and ends."""
        return self.places.tokens(self.end, self.end + 1)[0] if self.signs & loops.GOES_ON else None


_INNER = loops.SETS_IN | loops.GOES_ON


def gaps(text: str, group: Shingles, constants: Shingles, unique: Shingles) -> list[Gap]:
    """Return the stretches between constants that hold shingles of `group`; `unique` are those its sketch knows.

    One or two constants amid a stretch are a turn of phrase that two values happen to share, unless they are a label.
    """
    places = located(text)
    found = loops.gaps(places.shingles, places.kinds, group.array, constants.array, unique.array)
    return [Gap(places, *row) for row in found.tolist()]
