"""The contract of a template: a JSON Schema of its slots, and what keeps a prompt from fulfilling it.

Pure. The schema carries the template itself (`x-template`), so one document is all a validator needs. A prompt is read
with the template, and the values of its slots are checked against the schema: what the schema says is what is
checked, here and in any other validator of JSON Schema 2020-12.

What is demanded follows from the values seen: a type nearly all had, a value where none was empty. An enum lists the
values seen so far; `confidence` tells how far each is to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker

from schemas.events import Slot, SlotType
from streams.prompts.canonicalization.slot_types import PATTERNS
from streams.prompts.canonicalization.template import Template

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON_FORMAT = "json"  # a string that is JSON; other validators take an unknown format for a remark
VALUE_CHARS_SHOWN = 60
FORMATS = FormatChecker(formats=())


def json_schema(template: str, version: str, slots: Iterable[Slot]) -> dict[str, Any]:
    """Return the JSON Schema of a template's slot values; `template` shows the slots as `{{name}}`."""
    ordered = sorted(slots, key=lambda slot: slot.position)
    return {
        "$schema": DIALECT,
        "title": f"slots of a prompt template, version {version}",
        "x-template": template,
        "type": "object",
        "properties": {slot.name: _rule(slot) for slot in ordered},
        "required": [slot.name for slot in ordered],
        "additionalProperties": False,
    }


def problems(schema: Mapping[str, Any], text: str) -> list[str]:
    """Return what keeps a prompt from being a valid filling of the template of a schema; empty = valid."""
    template = Template.from_shown(schema["x-template"], schema["properties"])
    values = template.parse(text)
    if values is None:
        return [_missing(template, text)]
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    filled = dict(zip(template.names, values, strict=True))
    return [_in_words(error) for error in validator.iter_errors(filled)]


def _is_json(value: object) -> bool:
    if isinstance(value, str) and value.strip():
        orjson.loads(value)
    return True


FORMATS.checks(JSON_FORMAT, raises=orjson.JSONDecodeError)(_is_json)


def _rule(slot: Slot) -> dict[str, Any]:
    rule: dict[str, Any] = {"type": "string"}
    if not slot.optional:
        rule["minLength"] = 1
    if slot.type is SlotType.ENUM:
        rule["enum"] = [*slot.detail["values"], *([""] if slot.optional else [])]
    elif slot.type in PATTERNS:
        rule["pattern"] = rf"^\s*(?:{PATTERNS[slot.type]}){'?' if slot.optional else ''}\s*$"
    elif slot.type is SlotType.JSON:
        rule["format"] = JSON_FORMAT
    if language := slot.detail.get("language"):
        rule["x-language"] = language
    return {
        **rule,
        "examples": list(slot.examples),
        "x-type": slot.type.value,
        "x-repeated": slot.repeated,
        "x-confidence": slot.confidence,
    }


def _missing(template: Template, text: str) -> str:
    """Name the first fixed part of a template that a text lacks."""
    first, *inner, last = template.constants
    if not text.startswith(first):
        return f"does not begin with {_quoted(first)}"
    at = len(first)
    for constant in inner:
        found = text.find(constant, at)
        if found < 0:
            return f"lacks {_quoted(constant)}"
        at = found + len(constant)
    return f"does not end with {_quoted(last)}" if last else "has more than the template"


def _quoted(constant: str) -> str:
    shown = " ".join(constant.split()) or repr(constant)
    return f"'{shown}'" if len(shown) <= VALUE_CHARS_SHOWN else f"'{shown[: VALUE_CHARS_SHOWN - 1]}…'"


def _in_words(error: Any) -> str:
    """Say which slot breaks which rule, without its value: it may be private."""
    name, rule = error.path[0], error.schema
    reasons = {
        "minLength": "is empty",
        "enum": "is none of the values seen",
        "pattern": f"is no {rule.get('x-type', 'match')}",
        "format": "is no JSON",
    }
    return f"{name} {reasons.get(error.validator, error.validator)}"
