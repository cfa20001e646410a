"""How one set of shingles lies between another in a prompt.

When some members of a cluster share more than its constants, the shared part is either the value of a slot that
happened to repeat, or wording of a more specific template. Its place tells: a repeated value fills one whole gap
between constants; wording brings constants of its own beside text that still varies.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import IntEnum

# Changing one word changes three shingles: fewer other shingles than this between two parts is only their seam.
SEAM = 3


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
