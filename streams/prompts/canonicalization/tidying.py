"""Give what stands beside a slot to the side it belongs to.

Pure. Texts tell where they differ, not where a slot was: its values may all begin or end alike. What can be told from
the values themselves is put right here.

Rules
  1. A sentence in a slot keeps its full stop; a bracket opened in a slot is closed in it; a currency sign stays with
     its amount; what only a mark without white space stands between is one value (11:46).
  2. A part of a date or of a JSON object is no constant, though all values share it: `2026-{{x}}`, `{{{x}}}`.
  3. A value that is empty together with the blank beside it is not empty, but ends (or begins) with the word behind
     it: `{{American }}English` is a slot of "English" and "American English".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

import orjson

from schemas.events import SlotType
from streams.prompts.canonicalization.slot_types import PATTERNS
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tokens import LEFT_OUT_BEGIN, tokenize

SENTENCE_END = re.compile(r"[ \t]*[.?!。？！…]+")
SENTENCE_INSIDE = re.compile(r"[.?!][\"')]?\s+\S|[。？！]\S")
GOES_ON = re.compile(r"\s*,|[ \t]+[^\W\d_A-Z]")
MARK_APART = re.compile(r"\w [.,]")
CLOSING = tuple(".?!。？！…")
ALL_BUT_FEW = 0.9
SENTENCE_WORDS_MIN = 4  # from which a value is a sentence rather than a name
SENTENCE_START_CHARS = 40  # that hold them more often than not
CURRENCY_BEFORE = re.compile(r"[$€£¥₹]$")
BRACKETS = {")": "(", "]": "[", "}": "{"}
MAJORITY = 0.6  # of the values that must show a trait before it counts as the slot's
DATE = re.compile(PATTERNS[SlotType.DATE])
DATE_PART_BEFORE = re.compile(r"(?:\d{4}[-/.]|\d{4}年)(?:\d{1,2}[-/.月])?$")
DATE_PART_BEHIND = re.compile(r"(?:,? |[-/.])\d{4}\b|年?\d{1,2}月\d{1,2}日|月\d{1,2}日|日")
JSON_OPENED, JSON_CLOSED = re.compile(r"[\[{][\s\"\[{]*$"), re.compile(r"[\s\"\]}]*[\]}]")
WORD_BEHIND = re.compile(r"[^\W_][\w'’-]*")
_first = itemgetter(0)
WORD_BEFORE = re.compile(r"[^\W_][\w'’-]*$")


def tidy(template: Template, columns: Sequence[Sequence[str]], texts: Sequence[str]) -> Template:
    """Give each mark beside a slot to the side it belongs to.

    Args:
        template: as it was learnt.
        columns: what it reads in the texts, for each slot.
        texts: it was learnt from.
    """
    spaced = _without_bare_marks(template)
    if spaced.slots < template.slots:
        columns = spaced.columns(texts)
    template = spaced
    if not columns:
        return template
    constants = list(template.constants)
    for index, values in enumerate(columns):
        last = index + 2 == len(constants)
        constants[index + 1] = _after_slot(constants[index + 1], values, last=last)
        if constants[index] and CURRENCY_BEFORE.search(constants[index]) and _most(v[:1].isdigit() for v in values):
            constants[index] = constants[index][:-1]
        _complete(constants, index, values)
    return _joined(constants)


def _complete(constants: list[str], index: int, values: Sequence[str]) -> None:
    """Give a slot the part of its value that all its values share, where the value is none without it."""
    before, behind = constants[index], constants[index + 1]
    head, tail = DATE_PART_BEFORE.search(before), DATE_PART_BEHIND.match(behind)
    for start, end in ((head, None), (None, tail), (head, tail)):
        left, right = start.group() if start else "", end.group() if end else ""
        if (start or end) and _becomes(_is_date, values, left, right):
            constants[index], constants[index + 1] = before.removesuffix(left), behind.removeprefix(right)
            return
    head, tail = JSON_OPENED.search(before), JSON_CLOSED.match(behind)
    if head and tail and _becomes(_is_json, values, head.group(), tail.group()):
        constants[index], constants[index + 1] = before[: head.start()], behind[tail.end() :]
        return
    filled = [value for value in values if value]
    if not filled or len(filled) == len(values):
        return
    if (word := WORD_BEHIND.match(behind)) and all(value[-1] == " " and value.strip() for value in filled):
        constants[index + 1] = behind[word.end() :]
    elif (word := WORD_BEFORE.search(before)) and all(value[0] == " " and value.strip() for value in filled):
        constants[index] = before[: word.start()]


def _becomes(fits: Callable[[str], bool], values: Sequence[str], left: str, right: str) -> bool:
    """Tell whether values fit with what stands beside them, and do not fit without it."""
    whole = sum(fits(f"{left}{value}{right}") for value in values)
    return whole >= ALL_BUT_FEW * len(values) and not _most(fits(value) for value in values)


def _is_date(value: str) -> bool:
    return DATE.fullmatch(value.strip()) is not None


def _is_json(value: str) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


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
        ended = sum(value.rstrip()[-1:] in CLOSING for value in values if value.strip()) >= ALL_BUT_FEW * len(values)
        styled = not apart or _most(MARK_APART.search(value) for value in values)
        # Where the template goes on, no sentence of it ends here.
        if (
            styled
            and not ended
            and (
                ((closes or GOES_ON.match(behind)) and _are_sentences(values))
                or _most(SENTENCE_INSIDE.search(value) for value in values)
            )
        ):
            rest = behind
    return rest


def _are_sentences(values: Sequence[str]) -> bool:
    """Tell whether half of the values have enough words for a sentence."""
    short_max = len(values) // 2
    short = 0
    for seen, value in enumerate(values):
        if seen - short >= len(values) - short_max:
            break
        short += not _has_words(value)
    return short <= short_max


def _has_words(value: str) -> bool:
    start = value[:SENTENCE_START_CHARS]
    if sum(part[0].isalnum() for part in start.split()) >= SENTENCE_WORDS_MIN:
        return True  # as mostly: behind white space a word begins
    looked_at = (value,) if LEFT_OUT_BEGIN in start else (start, value)
    return any(sum(map(str.isalnum, map(_first, tokenize(part)))) >= SENTENCE_WORDS_MIN for part in looked_at)


def _opens(value: str, closing: str) -> bool:
    return value.count(BRACKETS[closing]) > value.count(closing)


def _most(traits: Iterable[object]) -> bool:
    seen = [bool(trait) for trait in traits]
    return bool(seen) and sum(seen) >= MAJORITY * len(seen)


def _joined(constants: list[str]) -> Template:
    """Drop inner constants that became empty: their slots are one."""
    inner = [constant for constant in constants[1:-1] if constant]
    return Template((constants[0], *inner, constants[-1])) if len(constants) > 1 else Template(tuple(constants))
