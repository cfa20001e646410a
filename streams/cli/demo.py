"""`promptloom demo`: the whole pipeline on this machine, and a summary people enjoy reading."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from connectors.postgres.reader import Cluster, Event
    from infra.demo import Outcome, Progress
    from streams.settings import Settings

TEMPLATES_SHOWN = 10
EVENTS_SHOWN = 6
EVENTS_READ = 400
TEMPLATE_LINES = 6
KEEP_POLL_S = 1.0
CHANGES = {"UPDATED", "SLOT_ADDED", "SLOT_REMOVED", "DRIFT_DETECTED"}


@click.command()
@click.option("--keep", is_flag=True, help="Keep everything running until Ctrl-C, to look around.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the summary as JSON.")
def demo(keep: bool, report: Path | None) -> None:
    """Start everything, replay Dataset/, and show the templates and their evolution.

    Uses services and a data folder of its own; nothing else is touched.
    """
    from rich.text import Text

    from infra import demo as running
    from streams.cli.render import console as plain_console
    from streams.settings import load

    console = plain_console()
    started = time.monotonic()

    def step(text: str) -> None:
        console.print(Text(f"{time.monotonic() - started:5.1f} s  ", style="dim").append(text, style="default"))

    with running.services(load(), step) as (settings, pipeline):
        with console.status("") as status:

            def progress(now: Progress) -> None:
                status.update(f"{now.arrived:,} of {now.sent:,} prompts have arrived in Postgres")

            outcome = running.run(settings, pipeline, step, progress)
        _show(console, settings, outcome, seconds=time.monotonic() - started)
        if report:
            report.write_text(json.dumps(summary_of(outcome), indent=2) + "\n")
            console.print(f"the summary is in {report}")
        _next_steps(console, settings, keep=keep)
        if keep:
            _stay(pipeline.check)
    step("stopped; nothing of it runs any more")


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of the report, under the names people grep for."""
    stats = outcome.stats
    return {
        "prompts_in": outcome.prompts_in,
        "rejected": stats.rejected,
        "clustered": stats.clustered,
        "unclustered": stats.unclustered,
        "duplicate": stats.duplicate,
        "dead_lettered": outcome.dead_lettered,
        "clusters": stats.clusters,
        "templates": stats.templates,
        "evolution_events": dict(stats.events),
        "postgres_rows": dict(stats.rows),
        "throughput_prompts_per_s": round(outcome.throughput_prompts_per_s, 1),
        "latency_ms_p50": stats.latency_ms_p50,
        "latency_ms_p95": stats.latency_ms_p95,
        "broker_version": outcome.broker_version,
    }


def _show(console: Console, settings: Settings, outcome: Outcome, *, seconds: float) -> None:
    import asyncio

    from rich.rule import Rule
    from rich.table import Table

    from infra.demo import STEADY_PER_S

    clusters, events = asyncio.run(_catalogue(settings))
    figures = summary_of(outcome)
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    outcomes = ("clustered", "unclustered", "rejected", "duplicate", "dead_lettered")
    table.add_row(
        "prompts", f"{outcome.prompts_in:,} = " + " + ".join(f"{figures[name]:,} {name}" for name in outcomes)
    )
    table.add_row("catalogue", f"{figures['clusters']:,} clusters, {figures['templates']:,} templates")
    table.add_row("evolution", ", ".join(f"{n} {kind}" for kind, n in sorted(figures["evolution_events"].items())))
    table.add_row("throughput", f"{outcome.throughput_prompts_per_s:,.0f} prompts/s, from the topic to Postgres")
    p50, p95 = outcome.stats.latency_ms_p50, outcome.stats.latency_ms_p95
    if p50 is not None and p95 is not None:
        table.add_row(
            "latency",
            f"p50 {p50:,.0f} ms, p95 {p95:,.0f} ms from produce to Postgres, at {STEADY_PER_S:.0f} prompts/s",
        )
    table.add_row("took", f"{seconds:.0f} s with Apache Kafka {outcome.broker_version}")
    console.print(Rule("the largest templates"))
    for cluster in clusters:
        _show_cluster(console, cluster)
    console.print(Rule("the newest changes"))
    for event in events:
        _show_event(console, event)
    console.print(Rule("what happened"))
    console.print(table)


async def _catalogue(settings: Settings) -> tuple[list[Cluster], list[Event]]:
    """Return the largest clusters, and the newest events, changes before creations."""
    from connectors.postgres.reader import Reader

    reader = Reader(settings.postgres.dsn.get_secret_value())
    try:
        clusters = await reader.clusters(limit=TEMPLATES_SHOWN)
        events = await reader.events(limit=EVENTS_READ)
    finally:
        await reader.close()
    # A catalogue that has just been learnt is full of CREATED; what changed is the news.
    ranked = sorted(events, key=lambda event: event.type not in CHANGES)
    return clusters, ranked[:EVENTS_SHOWN]


def _show_cluster(console: Console, cluster: Cluster) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from streams.cli.render import template_text

    head = Text(f"{cluster.members:6,}  ", style="bold green")
    head.append(cluster.name or "(not settled yet)", style="bold")
    head.append(f"  {cluster.version or ''} [{cluster.tenant}] {cluster.cluster_id[:8]}", style="dim")
    console.print(head)
    if cluster.template:
        shown = template_text(cluster.template, cluster.slot_names, lines_max=TEMPLATE_LINES)
        console.print(Padding(shown, (0, 0, 1, 8)))


def _show_event(console: Console, event: Event) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from streams.cli.render import diff_text

    head = Text(f"{event.type:15} ", style="bold yellow")
    head.append(event.name or (event.cluster_id or "")[:8], style="bold")
    if event.new_version:
        head.append(f"  {event.previous_version or ''} -> {event.new_version}", style="cyan")
    head.append(f"  [{event.tenant}]  {event.change_reason}", style="dim")
    console.print(head)
    if event.diff:
        console.print(Padding(diff_text(event.diff), (0, 0, 0, 8)))


def _next_steps(console: Console, settings: Settings, *, keep: bool) -> None:
    if not keep:
        console.print("\nnext: `make demo KEEP=1` keeps it running; README.md shows how to feed your own prompts")
        return
    console.print("\nstill running; Ctrl-C stops it. In another terminal:")
    console.print(f"  export PROMPTLOOM_DATA_DIR={settings.data_dir}", soft_wrap=True)
    for command, does in (
        ("promptloom clusters", "the catalogue"),
        ("promptloom show CLUSTER", "one template: slots, versions, examples"),
        ("promptloom tail", "evolution events as they happen"),
        ("promptloom replay FILE", "your own prompts (JSONL, JSON, CSV, TXT)"),
    ):
        console.print(f"  .venv/bin/{command:32} {does}")


def _stay(check: Any) -> None:
    try:
        while True:
            check()
            time.sleep(KEEP_POLL_S)
    except KeyboardInterrupt:
        click.echo("stopping")
