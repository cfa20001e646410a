"""How templates, versions and events look in a terminal.

Slots stand out in colour, everything else is printed as it is: a prompt or template may hold
square brackets, which rich would otherwise take for its own markup, so text is always a `Text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

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


def template_text(template: str, slot_names: Iterable[str], *, lines_max: int | None = TEMPLATE_LINES_SHOWN) -> Text:
    """Return the template with its slots highlighted; literal `{{braces}}` that are no slots stay plain."""
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


def diff_text(diff: str) -> Text:
    """Return a unified diff in its usual colours."""
    shown = Text()
    for line in diff.splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        shown.append(line + "\n", style=style)
    return shown


def event_text(event: EvolutionEvent, *, with_diff: bool = True) -> Text:
    """Return one evolution event, readable by someone who never saw the code."""
    shown = Text()
    shown.append(moment(event.occurred_at_ms) + " ", style="dim")
    shown.append(f"{event.type.value:15}", style=TYPE_STYLES.get(event.type, "bold"))
    name = event.template.name if event.template else ""
    shown.append(f" {name or event.cluster_id[:8]}", style="bold")
    if event.new_version:
        versions = f"{event.previous_version} -> {event.new_version}" if event.previous_version else event.new_version
        shown.append(f" {versions}", style="cyan")
    shown.append(f"  [{event.tenant}] cluster {event.cluster_id[:8]}\n", style="dim")
    shown.append(f"    {event.reason}\n")
    if with_diff and event.diff:
        for line in diff_text(event.diff).split("\n"):
            if line.plain:
                shown.append("    ").append_text(line).append("\n")
    return shown


def moment(at_ms: int) -> str:
    """Return milliseconds since the epoch as a UTC time a person reads."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
