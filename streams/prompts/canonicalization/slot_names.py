"""Call a slot by what stands around it.

Pure. Nearest evidence first: an XML tag, a quoted key, a label before a colon (on the line before, past dividing
lines, if the slot begins a line), a label after a dash, a turn of phrase ("you are a", "about"), what is counted
where the values are numbers, the type of the values where it says enough (language, date), the word it qualifies
("a ... letter"), the words before it, the words after it, and where there are none, what its values are made of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.events import SlotType
from streams.prompts.canonicalization.slot_types import type_of
from streams.prompts.canonicalization.template import Template, literals
from streams.prompts.canonicalization.tokens import UNSPACED

NAME_CHARS_MAX = 40
NAME_WORDS_MAX = 3
UNSPACED_CHARS_MAX = 6  # of a script without spaces
UNSPACED_WORD = re.compile(f"[{UNSPACED}]")
CONTEXT_CHARS = 400  # beside a slot that are looked at

TAG = re.compile(r"<([\w:-]{1,40})(?:\s[^<>]*)?>\s*[\"'`]*$")
QUOTED_KEY = re.compile(r"[\"']([\w -]{1,40})[\"']\s*[:=]\s*[\"'\[{]*$")
LABEL = re.compile(r"([^\W_][\w '/()-]{0,80}?)\]?[\"'`]?\**\s*(?:[:：=]|->|=>)\s*[\"'`“「『«(<\[{*]*\s*$")
BEGIN = re.compile(r"\[?(?:BEGIN|START)[ _](\w{1,30})\]?:?\s*$", re.IGNORECASE)
DESCRIBED = re.compile(r"^[\"'`”]*\s+[-–—:]\s+(?:the |a |an )?([^\W\d_][\w ]{1,40})", re.IGNORECASE)
WORDS_AFTER = re.compile(r"^[\"'`”)\]]*[ -]([^\W\d_]\w*(?: [^\W\d_]\w*)?)")
SENTENCE_ENDED = re.compile(r"[.!?。！？][\"'”)]*\s*$")
TURNS_OF_PHRASE = tuple(
    (re.compile(rf"\b(?:{words})\W*$", re.IGNORECASE), name)
    for words, name in (
        ("(?:you are|you're|act as|acting as|be|role of) (?:an?|the)|act as", "role"),
        ("about|regarding|concerning|on the (?:topic|subject) of", "topic"),
        ("titled|entitled", "title"),
        ("named|called|dear", "name"),
        ("(?:written|authored) by", "author"),
    )
)
TELLING_TYPES = {
    SlotType.LANGUAGE: "language",
    SlotType.DATE: "date",
    SlotType.TIME: "time",
    SlotType.URL: "url",
    SlotType.EMAIL: "email",
    SlotType.PATH: "path",
}
QUALIFYING_TYPES = frozenset({SlotType.ENUM, SlotType.NAME, SlotType.TEXT_SHORT})
QUALIFIES = re.compile(r"\b(?:an?|the|following)\s+$", re.IGNORECASE)  # "a ... letter"
PLAIN_TYPES = {
    SlotType.NUMBER: "number",
    SlotType.INTEGER: "number",
    SlotType.CODE: "code",
    SlotType.JSON: "json",
    SlotType.ENUM: "choice",
    SlotType.NAME: "name",
    SlotType.TEXT_SHORT: "text",
    SlotType.TEXT_LONG: "text",
}
_DETERMINERS = "the a an this that these those to in for with from at by following your my our their its given"
DETERMINERS = frozenset(_DETERMINERS.split())
_FILLER_WORDS = """
a about all also always an and any are as at be been below but by can do does each every following for from given have
has here how if in into is it its like may me must my no not now of on only or our please provide provided should so
some such than that the their them then there these they this those to use used using was we what when where which
who will with would you your
"""
FILLER_WORDS = frozenset(_FILLER_WORDS.split())


def name_slots(template: Template, texts: Sequence[str] = ()) -> Template:
    """Name each slot; names are unique and equal no literal.

    Args:
        texts: some that the template reads; what is in their slots helps where the constants say little.
    """
    taken = literals(template.constants)
    columns = template.columns(texts) or [()] * template.slots
    names: list[str] = []
    for values, before, after in zip(columns, template.constants, template.constants[1:], strict=False):
        base = _name(before[-CONTEXT_CHARS:], after[:CONTEXT_CHARS], values) or f"slot_{len(names) + 1}"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return template.named(names)


def _name(before: str, after: str, values: Sequence[str]) -> str:
    line, first = _line_before(before), after.split("\n", 1)[0]
    alone = before[-1:] != "\n" and not re.search(r"\w", before.rsplit("\n", 1)[-1])  # behind a dash, say
    labels = [pattern.search(line) for pattern in (TAG, QUOTED_KEY, BEGIN, LABEL)]
    described = DESCRIBED.search(first)
    for found in (described, *labels) if alone else (*labels, described):
        if found and (name := _slug(found.group(1))) and name not in FILLER_WORDS:
            return name
    for pattern, name in TURNS_OF_PHRASE:
        if pattern.search(line):
            return name
    kind = type_of([value for value in values if value.strip()])[0] if values else None
    following = WORDS_AFTER.search(first)
    words_after = [word for word in following.group(1).lower().split() if word not in FILLER_WORDS] if following else []
    if kind in (SlotType.INTEGER, SlotType.NUMBER) and words_after:
        return _slug(f"number of {words_after[-1]}")
    if kind in TELLING_TYPES:
        return TELLING_TYPES[kind]
    if kind in QUALIFYING_TYPES and words_after and QUALIFIES.search(line):
        return _slug(f"{words_after[0]} kind")
    if not SENTENCE_ENDED.search(line) and (name := _slug(" ".join(_telling(line)[-2:]))):
        return name
    if words_after:
        return _slug(words_after[0])
    return PLAIN_TYPES[kind] if kind is not None else ""


def _line_before(before: str) -> str:
    """Return what stands before the slot on its line, or, if nothing does, on the last line that has words."""
    lines = before.split("\n")
    for line in reversed(lines):
        if re.search(r"\w", line):
            return line
    return ""


def _telling(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]\w+", text.lower()) if word not in FILLER_WORDS]


def _slug(label: str) -> str:
    """Make a name of a label: what follows its last determiner, without filler words."""
    words: list[str] = re.findall(r"\w+", label.lower().replace("'", ""))
    if words and UNSPACED_WORD.search(words[-1]):
        return words[-1][-UNSPACED_CHARS_MAX:]
    for at in range(len(words) - 1, 0, -1):
        if words[at - 1] in DETERMINERS and words[at] not in FILLER_WORDS:
            words = ["number", "of", *words[at:]] if words[:2] == ["number", "of"] else words[at:]
            break
    kept = [word for word in words if word not in FILLER_WORDS] or words
    if words[:2] == ["number", "of"]:
        kept = words
    return "_".join(kept[-NAME_WORDS_MAX:]).strip("_")[:NAME_CHARS_MAX]
