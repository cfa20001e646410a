"""A template: constants with slots between them; how it is learnt from texts, and how it reads and fills them.

Pure. A template of n slots is n + 1 constants: `constants[0] value[0] constants[1] ... value[n-1] constants[n]`;
the first and the last constant may be empty (the template begins or ends with a slot), the inner ones never are.

Rules
  1. `parse` takes each inner constant at its first place behind the one before. If any reading of the text
     exists, this one is found; filling it in again gives the text byte for byte.
  2. What stands beside a slot is given to the side it belongs to (`_tidy`): a sentence in a slot keeps its full
     stop, a bracket opened in a slot is closed in it, a currency sign stays with its amount.
  3. A literal `{{x}}` of the prompts stays a literal: no slot is ever named x.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from streams.prompts.canonicalization.alignment import Alignment, align
from streams.prompts.canonicalization.tokens import affordable, tokenize, without_strangers

NOTHING_SHARED = Alignment((), starts_with_run=False, ends_with_run=False)
SLOT_MARK = re.compile(r"\{\{[^{}]*\}\}")

SENTENCE_END = re.compile(r"[ \t]*[.?!。？！…]+")
SENTENCE_INSIDE = re.compile(r"[.?!][\"')]?\s+\S|[。？！]\S")
GOES_ON = re.compile(r"\s*,|[ \t]+[^\W\d_A-Z]")
MARK_APART = re.compile(r"\w [.,]")
CLOSING = tuple(".?!。？！…")
ALL_BUT_FEW = 0.9
SENTENCE_WORDS_MIN = 4  # from which a value is a sentence rather than a name
CURRENCY_BEFORE = re.compile(r"[$€£¥₹]$")
BRACKETS = {")": "(", "]": "[", "}": "{"}
LACKED_SHARE_MAX = 0.1  # of the constants that a text of the template may lack; with more it is a stranger
EDGE_TOKENS_MAX = 3  # of a constant that were taken for its own because the texts compared all had them
MAJORITY = 0.6  # of the values that must show a trait before it counts as the slot's


@dataclass(frozen=True, slots=True)
class Template:
    """Constants and the names of the slots between them."""

    constants: tuple[str, ...]
    names: tuple[str, ...] = ()

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

    def constant_chars(self) -> int:
        return sum(map(len, self.constants))


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Put values into a shown template; a `{{x}}` that is no slot stays as it is."""
    return SLOT_MARK.sub(lambda mark: slots.get(mark.group()[2:-2].strip(), mark.group()), template)


def literals(constants: Iterable[str]) -> set[str]:
    """Return the names that literal `{{x}}` of the constants take away from slots."""
    return {mark[2:-2].strip() for constant in constants for mark in SLOT_MARK.findall(constant)}


def learn(texts: Sequence[str], known: Template | None = None) -> Template:
    """Return the template of texts filled from one, its slots not named yet.

    Where a known template reads all the texts, its constants stand, and only what is in its slots is compared.
    """
    different = sorted(set(texts), key=lambda text: (len(text), text))
    if len(different) == 1:
        return Template((different[0],))
    columns = _columns(known, different) if known is not None and known.slots else []
    if columns and len(columns[0]) == len(different):
        cut = [[tokenize(value) for value in values] for values in columns]
        return _tidy(_held_by_all(_with_shared(known or Template(("", "")), cut), different), different)
    tokens = [tokenize(text) for text in different]
    chosen = affordable(tokens)
    compared = [chosen[index] for index in without_strangers(chosen)]
    template = _with_shared(Template(("", "")), [compared])
    return _tidy(_held_by_all(template, different), different)


def _held_by_all(template: Template, texts: Sequence[str]) -> Template:
    """Cut from the inner constants what some text of the template lacks: not all texts were compared."""
    if not template.slots:
        return template
    first, *inner, last = template.constants
    most = (1 - LACKED_SHARE_MAX) * sum(map(len, inner))
    for text in texts:
        if Template((first, *inner, last)).parse(text) is not None:
            continue
        held, at = [], len(first)
        for constant in inner:
            part = next((part for part in _parts(constant) if text.find(part, at, len(text) - len(last)) >= 0), "")
            if part:
                held.append(part)
                at = text.find(part, at) + len(part)
        if sum(map(len, held)) >= most:
            inner = held
    return Template((first, *inner, last))


def _parts(constant: str) -> Iterator[str]:
    """Yield a constant, then what is left of it without a few tokens at its edges."""
    tokens = tokenize(constant)
    for cut in range(min(EDGE_TOKENS_MAX, len(tokens) - 1) + 1):
        for before in range(cut + 1):
            yield "".join(tokens[before : len(tokens) - cut + before])


def _with_shared(template: Template, columns: Sequence[Sequence[list[str]]]) -> Template:
    """Make constants of what all values of a slot share."""
    constants = [template.constants[0]]
    for values, behind in zip(columns, template.constants[1:], strict=True):
        if not any(values):
            constants[-1] += behind  # it was no slot at all
            continue
        shared = align(values) if all(values) else NOTHING_SHARED
        runs = list(shared.runs)
        if len(runs) == 1 and shared.starts_with_run and shared.ends_with_run:
            constants[-1] += runs[0] + behind
            continue
        if shared.starts_with_run:
            constants[-1] += runs.pop(0)
        tail = runs.pop() if shared.ends_with_run else ""
        constants += [*runs, tail + behind]
    return Template(tuple(constants))


def _tidy(template: Template, texts: Sequence[str]) -> Template:
    """Give each mark beside a slot to the side it belongs to."""
    template = _without_bare_marks(template)
    columns = _columns(template, texts)
    if not columns:
        return template
    constants = list(template.constants)
    for index, values in enumerate(columns):
        last = index + 2 == len(constants)
        constants[index + 1] = _after_slot(constants[index + 1], values, last=last)
        if constants[index] and CURRENCY_BEFORE.search(constants[index]) and _most(v[:1].isdigit() for v in values):
            constants[index] = constants[index][:-1]
    return _joined(constants)


def _columns(template: Template, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return for each slot its values in the texts that parse."""
    rows = [values for text in texts if (values := template.parse(text)) is not None]
    return list(zip(*rows, strict=True))


def _without_bare_marks(template: Template) -> Template:
    """Join slots that only a mark without white space stands between: 11:46, 1,000 and a-b are one value."""
    if not template.slots:
        return template
    first, *inner, last = template.constants
    return Template((first, *(constant for constant in inner if _separates(constant)), last))


def _separates(constant: str) -> bool:
    spaced = constant[0].isspace() and constant[-1].isspace() and not constant.isspace()
    return spaced or re.search(r"[\w\n]", constant) is not None


def _after_slot(constant: str, values: Sequence[str], *, last: bool) -> str:
    """Cut from a constant behind a slot what its values own."""
    rest = constant
    while rest[:1] in BRACKETS and _most(
        _opens(value + constant[: len(constant) - len(rest)], rest[0]) for value in values
    ):
        rest = rest[1:]
        if rest[:1] == ";":
            rest = rest[1:]
    end = SENTENCE_END.match(rest)
    if end:
        behind = rest[end.end() :]
        apart = end.group()[0] in " \t"  # "word ." : the value's own only if it sets its other marks apart too
        closes = (last and not behind) or behind[:1] in ("\n", '"', "”", "'", ";", ")", "」")
        words = sorted(sum(token[0].isalnum() for token in tokenize(value)) for value in values)
        sentence = words[len(words) // 2] >= SENTENCE_WORDS_MIN
        ended = sum(value.rstrip()[-1:] in CLOSING for value in values if value.strip()) >= ALL_BUT_FEW * len(values)
        several = _most(SENTENCE_INSIDE.search(value) for value in values)
        goes_on = bool(GOES_ON.match(behind))  # no sentence of the template ends here
        styled = not apart or _most(MARK_APART.search(value) for value in values)
        if styled and not ended and (several or (closes and sentence) or (goes_on and sentence)):
            rest = behind
    return rest


def _opens(value: str, closing: str) -> bool:
    return value.count(BRACKETS[closing]) > value.count(closing)


def _most(traits: Iterable[object]) -> bool:
    seen = [bool(trait) for trait in traits]
    return bool(seen) and sum(seen) >= MAJORITY * len(seen)


def _joined(constants: list[str]) -> Template:
    """Drop inner constants that became empty: their slots are one."""
    inner = [constant for constant in constants[1:-1] if constant]
    return Template((constants[0], *inner, constants[-1])) if len(constants) > 1 else Template(tuple(constants))
