"""How templates, versions and events look in a terminal.

Slots stand out in colour. Prompts and what was made of them are other people's text: square
brackets would be markup to rich, so text is always a `Text`; control characters would be commands
to the terminal, so they are shown as escapes (`printable`).
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from schemas.events import EvolutionEvent, EvolutionType

TYPE_STYLES = {
    EvolutionType.CREATED: "bold green",
    EvolutionType.UPDATED: "bold yellow",
    EvolutionType.SLOT_ADDED: "bold cyan",
    EvolutionType.SLOT_REMOVED: "bold magenta",
    EvolutionType.DRIFT_DETECTED: "bold red",
}
TEMPLATE_LINES_SHOWN = 12
LINE_CHARS_MAX = 100  # of a template or value shown on one line
# Categories a terminal obeys instead of showing: controls, line and paragraph separators, lone surrogates.
UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Zl", "Zp", "Cs"})
# Marks that turn the direction of writing, and so could make text read as what it is not.
DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
LINE_WIDTH_PIPED = 160  # of output that goes to no terminal, and so has no width of its own


def printable(text: str) -> str:
    """Return the text with everything but newlines and tabs that a terminal would obey as visible escapes."""
    return "".join(character if _harmless(character) else _escape(character) for character in text)


def _harmless(character: str) -> bool:
    return character in "\n\t" or not (
        character in DIRECTION_MARKS or unicodedata.category(character) in UNPRINTABLE_CATEGORIES
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def console() -> Console:
    """Return a console that prints what it is given: nothing is guessed to be markup, emoji or a number."""
    screen = Console(highlight=False, markup=False, emoji=False)
    if not screen.is_terminal:
        screen.width = max(screen.width, LINE_WIDTH_PIPED)
    return screen


def json_text(value: object) -> str:
    """Return the value as JSON of ASCII characters only, none of which a terminal obeys."""
    return json.dumps(plain(value), indent=2).replace("\x7f", "\\u007f")


def plain(value: Any) -> Any:
    """Return dataclasses and times as JSON knows them; a field `x_json` becomes the `x` it holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            name.removesuffix("_json"): json.loads(held) if name.endswith("_json") and held else plain(held)
            for name, held in named
        }
    if isinstance(value, Mapping):
        return {name: plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return value.isoformat() if isinstance(value, datetime) else value


def template_text(template: str, slot_names: Iterable[str], *, lines_max: int | None = TEMPLATE_LINES_SHOWN) -> Text:
    """Return the template with its slots highlighted; literal `{{braces}}` that are no slots stay plain."""
    template = printable(template)
    lines = template.split("\n")
    cut = lines_max is not None and len(lines) > lines_max
    shown = Text("\n".join(lines[:lines_max]) if cut else template)
    names = sorted(set(slot_names), key=len, reverse=True)
    if names:
        pattern = "|".join(re.escape("{{" + name + "}}") for name in names)
        shown.highlight_regex(pattern, "bold cyan")
    if cut:
        shown.append(f"\n… {len(lines) - (lines_max or 0)} more lines", style="dim")
    return shown


def one_line(text: str, chars_max: int = LINE_CHARS_MAX) -> str:
    """Return the text on one line, cut to a length."""
    line = " ".join(text.split())
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"


def slot_values_text(values: Mapping[str, str]) -> Text:
    """Return the value each slot has in one prompt."""
    shown = Text()
    for name, value in values.items():
        shown.append(printable(name), style="bold cyan")
        shown.append(f" = {printable(one_line(value))}\n")
    shown.rstrip()
    return shown


def diff_text(diff: str) -> Text:
    """Return a unified diff in its usual colours."""
    shown = Text()
    for line in printable(diff).splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        shown.append(line + "\n", style=style)
    return shown


def event_text(event: EvolutionEvent, *, with_diff: bool = True) -> Text:
    """Return one evolution event, readable by someone who never saw the code."""
    shown = Text()
    shown.append(moment(event.occurred_at_ms) + " ", style="dim")
    shown.append(f"{event.type.value:15}", style=TYPE_STYLES.get(event.type, "bold"))
    name = event.template.name if event.template else ""
    shown.append(f" {printable(name) or event.cluster_id[:8]}", style="bold")
    if event.new_version:
        versions = f"{event.previous_version} -> {event.new_version}" if event.previous_version else event.new_version
        shown.append(f" {versions}", style="cyan")
    shown.append(f"  [{printable(event.tenant)}] cluster {event.cluster_id[:8]}\n", style="dim")
    shown.append(f"    {printable(event.reason)}\n")
    if with_diff and event.diff:
        for line in diff_text(event.diff).split("\n"):
            if line.plain:
                shown.append("    ").append_text(line).append("\n")
    return shown


def moment(at_ms: int) -> str:
    """Return milliseconds since the epoch as a UTC time a person reads."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
