"""Tell what type the values of a slot have.

Pure. A type is what nearly all values have in common (`TYPE_SHARE_MIN`); the most specific type wins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from schemas.events import SlotType
from streams.prompts.canonicalization.languages import CODE_MARKS, LANGUAGE_NAMES

TYPE_SHARE_MIN = 0.9  # of the values that must fit a type
ENUM_VALUES_MAX = 12
ENUM_CHARS_MAX = 40
ENUM_REPEATS_MIN = 3  # an enum shows each of its values this often on average
SHORT_CHARS_MAX = 120  # median length up to which text is short

FITS: tuple[tuple[SlotType, re.Pattern[str]], ...] = (
    (SlotType.INTEGER, re.compile(r"[+-]?\d{1,3}(?:,\d{3})+|[+-]?\d+")),
    (SlotType.NUMBER, re.compile(r"[+-]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:[eE][+-]?\d+)?\s?%?")),
    (SlotType.TIME, re.compile(r"\d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?|\d{1,2}\s?[AaPp]\.?[Mm]\.?")),
    (
        SlotType.DATE,
        re.compile(
            r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{2}:\d{2}.*)?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}年\d{1,2}月\d{1,2}日"
            r"|(?:\w+,? )?(?:\d{1,2}(?:st|nd|rd|th)? )?[A-Z][a-z]{2,8}\.?,? (?:\d{1,2}(?:st|nd|rd|th)?,? )?\d{4}"
        ),
    ),
    (SlotType.EMAIL, re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    (SlotType.URL, re.compile(r"(?:https?|ftp)://\S+|www\.\S+\.\S+")),
    (SlotType.PATH, re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.@+-]+)+[/\\]?|[\w.-]+(?:/[\w.-]+)+")),
)
NAME_LIKE = re.compile(r"(?:[^\W\d_a-z][\w.'’-]*)(?: (?:de|van|von|la|of|the|and|&|[^\W\d_a-z][\w.'’-]*)){0,4}")
PATTERNS = {kind: pattern.pattern for kind, pattern in FITS}


def type_of(values: Sequence[str]) -> tuple[SlotType, dict[str, Any], float]:
    """Return the type of non-empty values, its detail, and the share of values that fit it."""
    if not values:
        return SlotType.TEXT_SHORT, {}, 0.0
    stripped = [value.strip() for value in values]
    for kind, pattern in FITS:
        if (share := share_of(stripped, pattern.fullmatch)) >= TYPE_SHARE_MIN:
            return kind, {}, share
    if (share := share_of(stripped, lambda value: value.lower() in LANGUAGE_NAMES)) >= TYPE_SHARE_MIN:
        return SlotType.LANGUAGE, {}, share
    counts = Counter(stripped)
    if (
        len(counts) <= ENUM_VALUES_MAX
        and len(stripped) >= ENUM_REPEATS_MIN * len(counts)
        and max(map(len, counts)) <= ENUM_CHARS_MAX
    ):
        return SlotType.ENUM, {"values": sorted(counts)}, 1.0
    if (share := share_of(stripped, _is_json)) >= TYPE_SHARE_MIN:
        return SlotType.JSON, {}, share
    tried = stripped[:: 1 + len(stripped) // CODE_VALUES_TRIED]
    if languages := _code_languages(tried):
        most = max(sorted(set(languages)), key=languages.count)
        return SlotType.CODE, {"language": most}, len(languages) / len(tried)
    if (share := share_of(stripped, NAME_LIKE.fullmatch)) >= TYPE_SHARE_MIN:
        return SlotType.NAME, {}, share
    median = sorted(map(len, stripped))[len(stripped) // 2]
    return (SlotType.TEXT_SHORT if median <= SHORT_CHARS_MAX else SlotType.TEXT_LONG), {}, 1.0


CODE_VALUES_TRIED = 12  # it takes a dozen patterns a value
CODE_HINT = re.compile(r"[(){}\[\];=<>@#$]|SELECT|FROM|import|sudo|---")  # prose mostly goes without all of these
CODE_CHARS_MAX = 400  # of a value that are looked at for marks of a programming language
LANGUAGES = [(language, *CODE_MARKS[language]) for language in sorted(CODE_MARKS)]  # the first of equals wins
MAJORITY_CODE = 0.7  # snippets are short: not each one shows what it is


def _code_languages(values: Sequence[str]) -> list[str]:
    """Return the programming languages that values look like, or none as soon as too few look like any."""
    languages: list[str] = []
    for seen, value in enumerate(values, 1):
        language = code_language(value)
        if language is not None:
            languages.append(language)
        elif (len(values) - seen + len(languages)) / len(values) < MAJORITY_CODE:
            return []
    return languages


def code_language(value: str) -> str | None:
    """Return the programming language a value looks like, or None."""
    start = value[:CODE_CHARS_MAX]
    if not CODE_HINT.search(start):
        return None
    best, most = "", 0
    for language, hints, marks in LANGUAGES:
        for hint in hints:
            if hint in start:
                found = len(marks.findall(start))
                if found > most:
                    best, most = language, found
                break
    return best if most >= 2 or (most == 1 and ("\n" in value or best == "sql")) else None


def share_of(values: Sequence[str], fits: Callable[[str], object]) -> float:
    """Return the share of values that fit, or 0 as soon as too many do not for it to matter."""
    misfits_max = (1 - TYPE_SHARE_MIN) * len(values) + 1e-9
    misfits = 0
    for value in values:
        misfits += not fits(value)
        if misfits > misfits_max:
            return 0.0
    return 1 - misfits / len(values)


def _is_json(value: str) -> bool:
    if value[:1] not in "{[":
        return False
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True
