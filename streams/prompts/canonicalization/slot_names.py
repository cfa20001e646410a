"""Call a slot by what stands around it.

Pure. The first of these that says something names the slot
  1. a mark around it: an XML tag, a quoted key, a label before a colon (on the line before, past dividing lines, if
     the slot begins a line), a label after a dash. Of a label that is an instruction, the noun is taken that the
     instruction is about: "Summarize the text in three sentences:" is a label of a text.
  2. a turn of phrase ("you are a", "about").
  3. of a number, what is counted, if that follows at once ("20 words"), or else the noun right before it, which it
     is the number of: "order 17".
  4. the type of the values where it says enough (language, date).
  5. the word it qualifies ("a ... letter").
  6. the words right before it in its clause; a preposition between them and the slot stays part of the name, since
     "weather in ..." is no weather: `weather_in`. Words across a colon, a full stop or a bracket, or before a
     conjunction or a question word, are about something else.
  7. the label in front of that clause, a preposition alone, the words behind the slot, or at last what its values are
     made of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import SlotType
from streams.prompts.canonicalization.compiled.tokens import UNSPACED_SCRIPTS
from streams.prompts.canonicalization.slot_types import type_of
from streams.prompts.canonicalization.template import Template, literals

NAME_CHARS_MAX = 40
NAME_WORDS_MAX = 3
UNSPACED_LABEL_CHARS_MAX = 6  # of a script without spaces that are taken for one name
UNSPACED_CHARS_MAX = 8  # of the last word of more than that
UNSPACED_WORD = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED_SCRIPTS) + "]")
CONTEXT_CHARS = 400  # beside a slot that are looked at
TURN_CHARS_MAX = 30  # of a turn of phrase, and more


@dataclass(frozen=True, slots=True)
class Mark:
    """A pattern that reaches to the end of a line, and what lets most lines do without a slow search for it."""

    pattern: re.Pattern[str]
    last: tuple[str, ...]  # what stands last, but for openers and white space
    openers: str
    chars_max: int  # of it before that, colons, stars and white space aside

    def search(self, line: str) -> re.Match[str] | None:
        marked = line.rstrip().rstrip(self.openers).rstrip()
        if not marked.endswith(self.last):
            return None
        words = marked.rstrip(":：=->").rstrip().rstrip("*")
        return self.pattern.search(line, max(0, len(words) - self.chars_max))


LABEL = re.compile(r"([^\W_][\w '/()-]{0,80}?)\]?[\"'`]?\**\s*(?:[:：=]|->|=>)\s*[\"'`“「『«(<\[{*]*\s*$")
MARKS = (
    Mark(re.compile(r"<([\w:-]{1,40})(?:\s[^<>]*)?>\s*[\"'`]*$"), (">",), "\"'`", CONTEXT_CHARS),
    Mark(re.compile(r"[\"']([\w -]{1,40})[\"']\s*[:=]\s*[\"'\[{]*$"), (":", "="), "\"'[{", 42),
    Mark(re.compile(r"(?:BEGIN|START)[ _](\w{1,30})\]?:?\s*$", re.IGNORECASE), ("",), "", 38),
    Mark(LABEL, (":", "：", "=", "->", "=>"), "\"'`“「『«(<[{*", 84),
)
DESCRIBED = re.compile(r"^[\"'`”]*\s+[-–—:]\s+(?:the |a |an )?([^\W\d_][\w ]{1,40})", re.IGNORECASE)
WORDS_AFTER = re.compile(r"^[\"'`”)\]]*[ -]([^\W\d_]\w*(?: [^\W\d_]\w*)?)")
CLAUSE_ENDED = re.compile(r"[.!?;:,()。？！；：，（）](?=\W)|[。？！；：，（）]")
OPENED = re.compile(r"[\s\"'`*“「『«(<\[{#>-]+$")  # what may stand between a slot and the words before it
WORD = re.compile(r"[^\W\d_][\w'’]*")
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
QUALIFIES = re.compile(r"\b(?:an?|the|following|their|your|my|our|its)\s+$", re.IGNORECASE)  # "a ... letter"
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
_DETERMINERS = "the a an this that these those your my our their its given"
DETERMINERS = frozenset(_DETERMINERS.split())
# Of a label, what stands before one of these is the thing, what stands behind it is told about the thing. Not "of".
_PREPOSITIONS = """
about above after against around as at before behind below beside between by concerning for from in inside into near on
onto outside over per regarding than through to toward towards under until via with within without
à avec chez dans en par pour sur auf aus bei für mit nach um von vor zu con desde hacia para por sobre com em per su
"""
PREPOSITIONS = frozenset(_PREPOSITIONS.split())
JOINING = frozenset(("of", "de", "del", "du", "des", "di", "da", "do"))
_CLAUSE_WORDS = """
and but how if or that what when where whether which who whom whose why et ou que qui und oder wie was y o e
"""
CLAUSE_WORDS = frozenset(_CLAUSE_WORDS.split())  # what is before them is another clause, or another slot's
_FILLER_WORDS = """
a about all also always an and any are as at be been being below but by can could did do does each every following for
from given had has have here how i if in into is it its let like may me might must my no not now of on only or our
please provide provided should so some such than that the their them then there these they this those to us use used
using was we were what when where which who will with would you your
le la les un une el los las una der die das den dem ein eine einen il lo gli os as um uma est ist es é
"""
FILLER_WORDS = frozenset(_FILLER_WORDS.split()) | PREPOSITIONS | JOINING | CLAUSE_WORDS
PARTICIPLES = frozenset(("according", "based"))  # as good as prepositions
PARTICLES = "的是把被让はをにがの"  # between words of scripts without spaces


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
    line, first = _line_before(before.replace("\\n", "\n")), after.split("\n", 1)[0]
    alone = before[-1:] != "\n" and not re.search(r"\w", before.rsplit("\n", 1)[-1])  # behind a dash, say
    return _marked(line, first, alone=alone) or _said(line, first, values)


def _marked(line: str, first: str, *, alone: bool) -> str:
    """Return the name that a mark around a slot, or a turn of phrase before it, gives."""
    labels = [mark.search(line) for mark in MARKS]
    described = DESCRIBED.search(first)
    for found in (described, *labels) if alone else (*labels, described):
        if name := _label(found):
            return name
    end = _end_of_words(line)
    return next((name for turn, name in TURNS_OF_PHRASE if turn.search(line, max(0, end - TURN_CHARS_MAX))), "")


def _end_of_words(line: str) -> int:
    """Return where the last word of a line ends."""
    end = len(line)
    while end and not (line[end - 1].isalnum() or line[end - 1] == "_"):
        end -= 1
    return end


def _label(found: re.Match[str] | None) -> str:
    name = _slug(_thing(found.group(1))) if found else ""
    return "" if name in FILLER_WORDS else name


def _said(line: str, first: str, values: Sequence[str]) -> str:
    """Return the name that the words around a slot, and its values, give."""
    kind = type_of([value for value in values if value.strip()])[0] if values else None
    following = WORDS_AFTER.search(first)
    behind = following.group(1).lower().split() if following else []
    words_after = [word for word in behind if word not in FILLER_WORDS]
    earlier, clause = _last_clause(line)
    if kind in (SlotType.INTEGER, SlotType.NUMBER):
        if words_after[:1] == behind[:1] != []:
            plural = [word for word in words_after if word.endswith("s")]
            return _slug((plural or words_after)[-1], "number_of_")
        if name := _nearest(clause, words_max=1):
            return name
    if kind in TELLING_TYPES:
        return TELLING_TYPES[kind]
    if kind in QUALIFYING_TYPES and words_after and QUALIFIES.search(line):
        return _slug(f"{words_after[0]} kind")
    if name := _nearest(clause, words_max=2):
        return name
    if clause and (name := _label(LABEL.search(earlier))):
        return name
    if (words := clause.lower().split()) and words[-1] in PREPOSITIONS:
        return words[-1]
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


def _last_clause(line: str) -> tuple[str, str]:
    """Return a line up to its last clause, and that clause; it is empty where a sentence has just ended."""
    if SENTENCE_ENDED.search(line):
        return line, ""
    said = OPENED.sub("", line)
    start = max((mark.end() for mark in CLAUSE_ENDED.finditer(said)), default=0)
    return said[:start], said[start:]


def _nearest(clause: str, *, words_max: int) -> str:
    """Make a name of the last words of a clause that say something, with the preposition behind them."""
    words = WORD.findall(clause.lower())
    if words and UNSPACED_WORD.search(words[-1]):
        return _unspaced(words[-1])
    preposition: list[str] = []
    while words and _is_filler(words[-1]):
        word = words.pop()
        if word in CLAUSE_WORDS:
            return ""
        if word in PREPOSITIONS | JOINING:
            preposition = preposition or [word]
    kept: list[str] = []
    while words and len(kept) < words_max and not _is_filler(words[-1]):
        kept.insert(0, re.sub("['’]", "", words.pop()))
    return "_".join([*kept, *preposition])[:NAME_CHARS_MAX] if kept else ""


def _is_filler(word: str) -> bool:
    return len(word) == 1 or word in FILLER_WORDS


def _thing(label: str) -> str:
    """Return the part of a label that says what it is a label of, without what it tells about that."""
    words = label.split()
    lower = [word.lower() for word in words]
    if "following" in lower[:-1]:
        start = len(lower) - lower[::-1].index("following")
        words, lower = words[start:], lower[start:]
    for at, word in enumerate(lower):
        if word in PREPOSITIONS and any(not _is_filler(known) and known not in PARTICIPLES for known in lower[:at]):
            return " ".join(words[:at])
    return " ".join(words)


def _slug(label: str, prefix: str = "") -> str:
    """Make a name of a label: what follows its last determiner, without filler words."""
    words: list[str] = re.findall(r"\w+", label.lower().replace("'", ""))
    if words and UNSPACED_WORD.search(words[-1]):
        return prefix + _unspaced(words[-1])
    for at in range(len(words) - 1, 0, -1):
        if words[at - 1] in DETERMINERS and words[at] not in FILLER_WORDS and words[max(0, at - 2)] not in JOINING:
            words = words[at:]
            break
    kept = [word for word in words if word not in FILLER_WORDS] or words
    return (prefix + "_".join(kept[-NAME_WORDS_MAX:]).strip("_"))[:NAME_CHARS_MAX]


def _unspaced(text: str) -> str:
    """Return the last word of a text without spaces, as far as particles tell where it begins."""
    if len(text) <= UNSPACED_LABEL_CHARS_MAX:
        return text
    text = text.rstrip(PARTICLES) or text
    return (re.split(f"[{PARTICLES}]", text)[-1] or text)[-UNSPACED_CHARS_MAX:]
