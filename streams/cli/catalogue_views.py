"""What `promptloom clusters`, `show` and `stats` put on the screen, in words for someone who never saw the code.

All text that came with prompts passes `printable`, here or in `template_text` and `diff_text`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from schemas.events import EvolutionType
from streams.cli.render import (
    TYPE_STYLES,
    diff_text,
    moment,
    one_line,
    plain,
    printable,
    slot_values_text,
    template_text,
)

if TYPE_CHECKING:
    from connectors.postgres.reader import Cluster, ClusterDetail, Event, Example, Integrity, SlotDetail, Stats, Version

SHORT_ID_CHARS = 8
VALUE_CHARS_MAX = 40  # of one example value in the table of slots
VALUES_SHOWN = 3
VERSIONS_SHOWN = 10
DIFF_CONTEXT_LINES = 1


def clusters_table(clusters: Iterable[Cluster]) -> Table:
    """Return one row a cluster."""
    table = _table("id", "tenant", "name", ">members", "version", ">slots", "template")
    for cluster in clusters:
        template = template_text(one_line(cluster.template), cluster.slot_names) if cluster.template else _no_template()
        table.add_row(
            Text(cluster.cluster_id[:SHORT_ID_CHARS], style="bold"),
            _text(cluster.tenant),
            _name(cluster),
            _text(f"{cluster.members:,}"),
            _text(cluster.version or "-"),
            _text(str(len(cluster.slot_names))),
            template,
        )
    return table


def detail_view(detail: ClusterDetail, events: Sequence[Event]) -> Group:
    """Return everything about one cluster."""
    cluster = detail.cluster
    parts: list[RenderableType] = [_heading(detail)]
    if cluster.template is None:
        parts.append(_section("Template", _no_template()))
    else:
        whole = template_text(cluster.template, cluster.slot_names, lines_max=None)
        parts.append(_section(f"Template {cluster.version}", whole))
    if detail.slots:
        parts.append(_section("Slots", _slots_table(detail.slots)))
    if detail.versions:
        parts.append(_section("Versions, newest first", _versions(detail.versions)))
    if events:
        parts.append(_section("Recent events, newest first", *(_event_text(event) for event in events)))
    if detail.examples:
        title = "Newest prompts (text of rejected prompts is never stored)"
        parts.append(_section(title, *(_example_text(example) for example in detail.examples)))
    return Group(*parts)


def with_diffs(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """Return the versions, newest first, each with its diff from the one before (empty for the first)."""
    return [{**plain(version), "diff": diff} for version, diff in zip(versions, _diffs(versions), strict=True)]


def stats_view(numbers: Stats, integrity: Integrity) -> Group:
    """Return the catalogue in numbers."""
    outcomes = {
        "clustered": numbers.clustered,
        "not in a cluster (yet)": numbers.unclustered,
        "rejected by moderation": numbers.rejected,
        "repeats of an id": numbers.duplicate,
    }
    catalogue = {"live clusters": numbers.clusters, "of these with a template": numbers.templates}
    return Group(
        _section(f"Prompts: {numbers.prompts:,}", _amounts(outcomes, total=numbers.prompts)),
        _section("Catalogue", _amounts(catalogue)),
        _section("Evolution events", _amounts(numbers.events) if numbers.events else Text("none yet", style="dim")),
        _section("Rows by table", _amounts(numbers.rows)),
        _section("Latency, from the record in Kafka to the row in Postgres", _latency_text(numbers)),
        _section("Integrity", _integrity_text(integrity)),
    )


def _name(cluster: Cluster) -> Text:
    """Return the cluster's name on one line, and say so where it is a model's."""
    name = _text(one_line(cluster.name, VALUE_CHARS_MAX))
    return name.append(" (model)", style="dim") if cluster.named_by else name


def time_text(at: datetime) -> str:
    return moment(int(at.timestamp() * 1000)) + " UTC"


def _heading(detail: ClusterDetail) -> Text:
    cluster = detail.cluster
    shown = Text(printable(cluster.name) or f"cluster {cluster.cluster_id[:SHORT_ID_CHARS]}", style="bold")
    if cluster.description:
        shown.append(f"\n{printable(one_line(cluster.description))}", style="not bold")
    facts = {
        "cluster": cluster.cluster_id + (" (retired: no prompts for long)" if cluster.retired else ""),
        "tenant": cluster.tenant,
        "members": f"{cluster.members:,}",
        "founded": time_text(cluster.founded_at) if cluster.founded_at else "unknown",
        "family": f"{cluster.family_name} ({cluster.family_id[:SHORT_ID_CHARS]})" if cluster.family_id else "none",
    }
    if cluster.named_by:
        facts["name by"] = f"the model {cluster.named_by}; offline: {cluster.offline_name or 'none'}"
    if cluster.family_named_by:
        facts["family"] += f", named by the model {cluster.family_named_by}"
    if detail.merged_cluster_ids:
        facts["took in"] = ", ".join(merged[:SHORT_ID_CHARS] for merged in detail.merged_cluster_ids)
    for name, value in facts.items():
        shown.append(f"\n{name:8} ", style="not bold dim").append(printable(value), style="not bold")
    return shown


def _slots_table(slots: Iterable[SlotDetail]) -> Table:
    listed = list(slots)
    # The slot's name in the template stays: it is what a prompt's values are kept under.
    refined = any(slot.refined_name for slot in listed)
    table = _table(
        "slot", *(["a model calls it"] if refined else []), "type", ">sure", "optional", "examples", "values seen"
    )
    for slot in listed:
        examples = [one_line(str(value), VALUE_CHARS_MAX) for value in json.loads(slot.examples_json)[:VALUES_SHOWN]]
        table.add_row(
            Text(printable(slot.name), style="bold cyan"),
            *([_refined_name(slot)] if refined else []),
            _text(slot.type + (", repeated" if slot.repeated else "")),
            _text(f"{slot.confidence:.0%}"),
            _text("yes" if slot.optional else "no"),
            _text("\n".join(examples)),
            _text(_statistics(json.loads(slot.statistics_json))),
        )
    return table


def _refined_name(slot: SlotDetail) -> Text:
    name = Text(printable(slot.refined_name), style="cyan")
    return name.append(f"\n{printable(one_line(slot.refined_reason))}", style="dim") if slot.refined_reason else name


def _statistics(numbers: Mapping[str, Any]) -> str:
    """Say in words what `SlotSketch.summary` counted."""
    if not numbers.get("values"):
        return "none yet"
    lines = [f"{numbers['values']:,}, {numbers.get('distinct', 0):,} distinct"]
    if numbers.get("empty"):
        lines.append(f"{numbers['empty']:,} empty")
    if numbers.get("length_p95"):
        lines.append(f"half up to {numbers['length_p50']} characters, 95% up to {numbers['length_p95']}")
    top = [f"{one_line(str(value), VALUE_CHARS_MAX)} ({count}x)" for value, count in numbers.get("top", ())]
    if top:
        lines.append("often: " + ", ".join(top[:VALUES_SHOWN]))
    return "\n".join(lines)


def _versions(versions: Sequence[Version]) -> Text:
    shown = Text()
    for version, diff in zip(versions[:VERSIONS_SHOWN], _diffs(versions), strict=False):
        shown.append(version.version, style="bold cyan")
        shown.append(f"  {time_text(version.created_at)}", style="dim")
        shown.append(f"  from {version.members:,} prompts, confidence {version.confidence:.2f}\n")
        shown.append_text(diff_text(diff))
    hidden = len(versions) - VERSIONS_SHOWN
    if hidden > 0:
        shown.append(f"… {hidden} older versions: see --json", style="dim")
    shown.rstrip()
    return shown


def _diffs(versions: Sequence[Version]) -> list[str]:
    older = [*versions[1:], None]
    return [_diff(before, version) if before else "" for before, version in zip(older, versions, strict=True)]


def _diff(before: Version, after: Version) -> str:
    lines = difflib.unified_diff(
        before.template.split("\n"),
        after.template.split("\n"),
        before.version,
        after.version,
        n=DIFF_CONTEXT_LINES,
        lineterm="",
    )
    return "\n".join(lines)


def _event_text(event: Event) -> Text:
    style = TYPE_STYLES[EvolutionType(event.type)] if event.type in TYPE_STYLES else "bold"
    shown = Text(time_text(event.created_at), style="dim")
    shown.append(f"  {event.type}", style=f"not dim {style}")
    if event.new_version:
        before = f"{event.previous_version} -> " if event.previous_version else ""
        shown.append(f" {before}{event.new_version}", style="not dim cyan")
    shown.append(f"  {printable(event.change_reason)}", style="not dim")
    return shown


def _example_text(example: Example) -> Text:
    shown = Text(printable(example.prompt_id), style="bold")
    shown.append(f"  {time_text(example.created_at)}\n", style="not bold dim")
    values: dict[str, str] = json.loads(example.slots_json or "{}")
    shown.append_text(slot_values_text(values) if values else _text(one_line(example.text)))
    return shown


def _amounts(amounts: Mapping[str, int], *, total: int = 0) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for name, amount in amounts.items():
        table.add_row(_text(name), _text(f"{amount:,}"), _text(f"{amount / total:.1%}" if total else ""))
    return table


def _latency_text(numbers: Stats) -> Text:
    if numbers.latency_ms_p50 is None or numbers.latency_ms_p95 is None:
        return Text("no prompts yet", style="dim")
    return Text(
        f"half within {_duration(numbers.latency_ms_p50)} (p50), 95% within {_duration(numbers.latency_ms_p95)} (p95); "
        "the time a backlog waits counts"
    )


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.1f} s"


def _integrity_text(integrity: Integrity) -> Text:
    if not integrity.unassigned and not integrity.gaps:
        return Text("ok: every allowed prompt has an assignment, no chain has a gap", style="green")
    return Text(
        f"{integrity.unassigned:,} allowed prompts without an assignment, {integrity.gaps:,} chains with a gap "
        "(none should be left once the sink has caught up)",
        style="bold red",
    )


def _section(title: str, *body: RenderableType) -> Group:
    return Group(Text(f"\n{title}", style="bold underline"), *(Padding(part, (0, 0, 0, 2)) for part in body))


def _table(*columns: str) -> Table:
    """Return an empty table; a column whose name begins with `>` holds numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _text(text: str) -> Text:
    return Text(printable(text))


def _no_template() -> Text:
    return Text("no template yet: it comes when enough prompts agree", style="dim")
