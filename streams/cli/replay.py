"""`promptloom replay`: send files of prompts to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

    from connectors.dataset import PromptFile
    from streams.prompts.replay import FileProgress, Summary

INTERRUPTED_EXIT_CODE = 130


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many prompts a second.")
@click.option("--tenant", default="", help="Send every prompt as this tenant, whatever the file says.")
@click.option("--resume", is_flag=True, help="Go on where an earlier replay of the same files stopped.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many prompts.")
@click.option("--encoding", default="", help="Of files without a byte order mark (default: UTF-8, else cp1252).")
def replay(path: Path | None, rate: float | None, tenant: str, resume: bool, limit: int | None, encoding: str) -> None:
    """Send the prompts of PATH to Kafka: a file or a folder of JSONL, JSON, CSV or TXT, also as .gz.

    Without PATH, the prompts that come with promptloom. A line that is no prompt is reported and skipped.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from connectors.dataset import find, shipped
    from connectors.kafka.client import confluent_configuration
    from infra.embedded.addresses import resolve
    from streams.prompts.replay import Options
    from streams.prompts.replay import replay as send
    from streams.settings import load

    settings = resolve(load(), postgres=False)
    files = find(path or shipped(), encoding=encoding)
    folder = settings.data_dir / "replay"
    console = Console(highlight=False)
    with _progress(console, files) as on_progress:
        summary = send(
            files,
            confluent_configuration(settings.kafka),
            folder=folder,
            report=folder / f"bad-lines-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl",
            options=Options(tenant=tenant, rate=rate, limit=limit, resume=resume),
            on_progress=on_progress,
        )
    _show(console, summary)
    if summary.interrupted:
        raise click.exceptions.Exit(INTERRUPTED_EXIT_CODE)


@contextmanager
def _progress(console: Console, files: list[PromptFile]) -> Iterator[Callable[[FileProgress], None]]:
    """Show one bar over the bytes of all files, with the prompts and their rate beside it."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[prompts]:,} prompts"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TextColumn("[red]{task.fields[bad]}[/red]"),
        TimeElapsedColumn(),
    )
    offsets: dict[Path, int] = {}
    for file in files:
        offsets[file.path] = sum(other.size for other in files[: len(offsets)])
    sent: dict[Path, int] = {}
    bad: dict[Path, int] = {}
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replaying", total=sum(file.size for file in files), prompts=0, rate=0.0, bad="")

        def on_progress(progress: FileProgress) -> None:
            path = progress.file.path
            sent[path], bad[path] = progress.sent, progress.bad
            prompts, bad_lines = sum(sent.values()), sum(bad.values())
            bar.update(
                task,
                description=path.name,
                completed=offsets[path] + progress.bytes_read,
                prompts=prompts,
                rate=prompts / max(bar.tasks[0].elapsed or 0.0, 0.001),
                bad=f"{bad_lines} bad" if bad_lines else "",
            )

        yield on_progress


def _show(console: Console, summary: Summary) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", show_footer=len(summary.files) > 1)
    table.add_column("file", footer=f"{len(summary.files)} files")
    table.add_column("sent now", justify="right", footer=f"{summary.sent:,}")
    table.add_column("in Kafka", justify="right", footer=f"{sum(file.prompts for file in summary.files):,}")
    table.add_column("bad lines", justify="right", footer=f"{summary.bad:,}")
    table.add_column("")
    for file in summary.files:
        state = "" if file.complete else "[yellow]to be continued[/yellow]"
        if file.complete and not file.sent and not file.bytes_read:
            state = "[dim]sent before[/dim]"
        table.add_row(file.file.path.name, f"{file.sent:,}", f"{file.prompts:,}", f"{file.bad:,}", state)
    console.print(table)
    rate = summary.sent / summary.seconds if summary.seconds else 0.0
    console.print(f"\n{summary.sent:,} prompts in {summary.seconds:.1f} s, {rate:,.0f} prompts/s")
    if summary.bad_reported:
        console.print(
            f"[red]{summary.bad_reported:,} bad lines[/red], each with its reason, in {summary.report}", soft_wrap=True
        )
    if summary.interrupted or not all(file.complete for file in summary.files):
        console.print("go on with [bold]promptloom replay --resume[/bold] and the same path")
    else:
        console.print(
            "next: [bold]promptloom tail[/bold] shows templates evolve, [bold]promptloom clusters[/bold] the largest"
        )
