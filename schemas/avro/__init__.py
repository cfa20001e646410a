"""Avro schemas: this program's own, one record a file, and what is known of other writers'.

A file `promptloom.X.avsc` describes the model `X` of `schemas/prompts.py`, field by field;
`tests/contracts/test_avro_schemas.py` compares the two. A field added later needs a default on both
sides, so that a reader of either age understands a writer of the other.

Another writer's schema comes from outside, and a hostile or careless one can bring a reader down:
`unsafe` says why a schema may not be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

NAMESPACE = "promptloom"  # of this program's own schemas
SCHEMA_DEPTH_MAX = 100  # records, unions, arrays and maps inside each other; a deep reader exhausts the C stack


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """A schema someone wrote records with. `definition` is the Avro schema, or None for plain JSON."""

    format: Literal["avro", "json"]
    definition: Any = None


def folder() -> Path:
    """Return the folder that holds the schema files."""
    return Path(__file__).parent


def unsafe(definition: Any) -> str:
    """Return why records under this schema must not be read, or "" when they may.

    A record that contains itself lets four million bytes nest four million deep, and fastavro, which
    recurses in C, dies of it. An array whose items take no bytes lets twenty bytes claim a
    billion items.
    """
    return _Walk().fault(definition, ())


class _Walk:
    """Carries the named types met so far; Avro refers to a type by name after its first appearance."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def fault(self, part: Any, inside: tuple[str, ...], depth: int = 0) -> str:
        if depth > SCHEMA_DEPTH_MAX:
            return f"it nests deeper than {SCHEMA_DEPTH_MAX}"
        if isinstance(part, list):
            return self._first_fault(part, inside, depth)
        if isinstance(part, str):
            return f"the type {part} contains itself" if part in inside else ""
        if not isinstance(part, dict):
            return "it is not an Avro schema"
        kind = part.get("type")
        if kind in ("record", "error"):
            name = str(part.get("name"))
            self.named[name] = part
            return self._first_fault(_field_types(part), (*inside, name), depth)
        if kind in ("array", "map"):
            item = part.get("items" if kind == "array" else "values")
            if kind == "array" and not self._takes_bytes(item):
                return "it has an array whose items take no bytes"
            return self.fault(item, inside, depth + 1)
        return self.fault(kind, inside, depth + 1) if isinstance(kind, dict | list) else ""

    def _first_fault(self, parts: list[Any], inside: tuple[str, ...], depth: int) -> str:
        return next((fault for part in parts if (fault := self.fault(part, inside, depth + 1))), "")

    def _takes_bytes(self, part: Any) -> bool:
        part = self.named.get(part, part) if isinstance(part, str) else part
        if part == "null":
            return False
        if isinstance(part, dict) and part.get("type") == "record":
            return any(self._takes_bytes(kind) for kind in _field_types(part))
        if isinstance(part, dict) and part.get("type") == "fixed":
            return bool(part.get("size"))
        return not (isinstance(part, dict) and part.get("type") == "null")


def _field_types(record: dict[str, Any]) -> list[Any]:
    """Return the types of a record's fields; what is no field has no type, which is a fault of its own."""
    fields = record.get("fields")
    if not isinstance(fields, list):
        return []
    return [field.get("type") if isinstance(field, dict) else None for field in fields]
