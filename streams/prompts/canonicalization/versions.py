"""Versions of a template: what changed between two of them, which number comes next, and the difference in text.

Pure. The number is semantic: a slot removed is major (whoever fills the template by slot name must change), a slot
added is minor, wording is a patch; another template altogether is major.
"""

from __future__ import annotations

import difflib
import re

from schemas.events import EvolutionType
from streams.prompts.canonicalization.evolution import compare
from streams.prompts.canonicalization.template import Template

FIRST = "1.0.0"
PARTING = re.compile(r"\w|\n[ \t]*\n")  # words or an empty line: what parts two slots for good
BUMP = {
    EvolutionType.SLOT_REMOVED: 0,
    EvolutionType.SLOT_ADDED: 1,
    EvolutionType.UPDATED: 2,
}


def following(version: str, before: Template, after: Template) -> str:
    """Return the version number that a change from one template to the next leads to."""
    numbers = [int(part) for part in version.split(".")]
    place = 0 if is_replaced(before, after) else BUMP[kind_of_change(before, after)]
    return ".".join(map(str, [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]))


def kind_of_change(before: Template, after: Template) -> EvolutionType:
    """Name the change from one template to the next by what happened to its slots, if they can be followed at all."""
    if is_replaced(before, after):
        return EvolutionType.UPDATED
    grown = slot_groups(after) - slot_groups(before)
    if grown:
        return EvolutionType.SLOT_ADDED if grown > 0 else EvolutionType.SLOT_REMOVED
    return EvolutionType.UPDATED


def is_replaced(before: Template, after: Template) -> bool:
    """Tell whether another template took the place of one: hardly a word and not even the number of slots stayed."""
    return slot_groups(before) != slot_groups(after) and compare(before, after).is_replacement


def slot_groups(template: Template) -> int:
    """Count slots, those that only marks stand between as one: where a list is cut is no matter of versions."""
    groups = min(template.slots, 1)
    return groups + sum(1 for constant in template.constants[1:-1] if PARTING.search(constant))


def unified_diff(before: Template, after: Template) -> str:
    """Return the difference line by line, without file names."""
    lines = difflib.unified_diff(before.show().splitlines(), after.show().splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def in_words(before: Template, after: Template, kind: EvolutionType) -> str:
    """Say in a few words what changed."""
    gone = [name for name in before.names if name not in after.names]
    new = [name for name in after.names if name not in before.names]
    if kind is EvolutionType.SLOT_ADDED:
        return f"a slot was added ({', '.join(new) or 'beside the known ones'})"
    if kind is EvolutionType.SLOT_REMOVED:
        return f"a slot was removed ({', '.join(gone) or 'one of several alike'})"
    if is_replaced(before, after):
        return "another template took its place"
    return "the fixed wording changed"
