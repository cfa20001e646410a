"""A template: constants with slots between them; how it reads and fills texts.

Pure. A template of n slots is n + 1 constants: `constants[0] value[0] constants[1] ... value[n-1] constants[n]`;
the first and the last constant may be empty (the template begins or ends with a slot), the inner ones never are.

Rules
  1. `parse` takes each inner constant at its first place behind the one before. If any reading of the text
     exists, this one is found; filling it in again gives the text byte for byte.
  2. A literal `{{x}}` of the prompts stays a literal: no slot is ever named x.

Where templates come from: `learning.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SLOT_MARK = re.compile(r"\{\{[^{}]*\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """Constants and the names of the slots between them."""

    constants: tuple[str, ...]
    names: tuple[str, ...] = ()
    constant_chars: int = field(init=False, repr=False, compare=False)  # of all constants

    def __post_init__(self) -> None:
        object.__setattr__(self, "constant_chars", sum(map(len, self.constants)))

    @classmethod
    def from_shown(cls, template: str, names: Iterable[str]) -> Template:
        """Return the template that `show` shows like this; no literal of it is named like a slot."""
        marks = "|".join(re.escape("{{" + name + "}}") for name in names)
        if not marks:
            return cls((template,))
        return cls(tuple(re.split(marks, template)), tuple(mark[2:-2] for mark in re.findall(marks, template)))

    @property
    def slots(self) -> int:
        return len(self.constants) - 1

    def named(self, names: Sequence[str]) -> Template:
        return Template(self.constants, tuple(names))

    def show(self) -> str:
        """Return the template with `{{name}}` for each slot."""
        parts = [self.constants[0]]
        for name, constant in zip(self.names, self.constants[1:], strict=True):
            parts += ["{{", name, "}}", constant]
        return "".join(parts)

    def parse(self, text: str) -> list[str] | None:
        """Return the slot values with which the template gives `text`, or None."""
        constants = self.constants
        first, last = constants[0], constants[-1]
        if len(constants) == 1:
            return [] if text == first else None
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last):
            return None
        at, values = len(first), []
        for constant in constants[1:-1]:
            found = text.find(constant, at, end)
            if found < 0:
                return None
            values.append(text[at:found])
            at = found + len(constant)
        if at > end:
            return None
        values.append(text[at:end])
        return values

    def columns(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Return for each slot its values in the texts that parse."""
        rows = [values for text in texts if (values := self.parse(text)) is not None]
        return list(zip(*rows, strict=True))


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Put values into a shown template; a `{{x}}` that is no slot stays as it is."""
    return SLOT_MARK.sub(lambda mark: slots.get(mark.group()[2:-2].strip(), mark.group()), template)


def literals(constants: Iterable[str]) -> set[str]:
    """Return the names that literal `{{x}}` of the constants take away from slots."""
    return {mark[2:-2].strip() for constant in constants for mark in SLOT_MARK.findall(constant)}
