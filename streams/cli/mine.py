"""`promptloom mine`: the templates in a file, without Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:
    from schemas.prompts import Moderation, Prompt
    from streams.prompts.mine import Mined, Summary

TEMPLATES_SHOWN = 10
TEMPLATE_LINES = 6


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Predictions, JSON lines.")
@click.option("--events", type=click.Path(dir_okay=False, path_type=Path), help="Evolution events, JSON lines.")
@click.option(
    "--templates",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Each cluster's newest template, the largest first.",
)
@click.option("--moderate", is_flag=True, help="Reject prompts as the moderation stage would (skipped otherwise).")
@click.option("--quiet", is_flag=True, help="No progress bar, no summary.")
def mine(source: Path, out: Path, events: Path | None, templates: Path | None, *, moderate: bool, quiet: bool) -> None:
    """Find the prompt templates in INPUT, a file of JSON lines with `text` or `messages` (plain or .gz).

    Runs the same logic as the stream, in this process and in the order of the file: one pass to learn, a second
    one to read every prompt with the final templates. Nothing is moderated unless --moderate is given.
    """
    from connectors.embedders.wordllama import WordllamaEmbedder
    from streams.prompts.calibrated import policy_of
    from streams.prompts.mine import Miner, event_line, json_line, template_line
    from streams.settings import load

    _check_apart([source, out, *(path for path in (events, templates) if path)])
    settings = load()
    embedder = WordllamaEmbedder(chunk_chars=settings.embedding.chunk_chars, chunks_max=settings.embedding.chunks_max)
    miner = Miner(source, embedder, embedder.encode, _judge() if moderate else None, policy_of(settings))
    with ExitStack() as files:
        # All are opened before the long work: a name that cannot be written is told at once.
        event_file = files.enter_context(_writable(events)) if events else None
        template_file = files.enter_context(_writable(templates)) if templates else None
        out_file = files.enter_context(_writable(out))
        bar = files.enter_context(_progress(source, quiet=quiet))
        for event in miner.learn(bar("learning")):
            if event_file:
                event_file.write(json_line(event_line(event)))
        for prediction in miner.predictions(bar("reading")):
            out_file.write(json_line(prediction))
        if template_file:
            template_file.writelines(json_line(template_line(mined)) for mined in miner.summary.largest())
    if not quiet:
        _show_templates(miner.summary.largest()[:TEMPLATES_SHOWN])
        _show(miner.summary, moderated=moderate)


def _check_apart(paths: list[Path]) -> None:
    """Refuse names of one and the same file: INPUT is read twice, and would be gone by the second time.

    Devices and pipes may be named twice: `--out /dev/null --events /dev/null` is a way to time a run.
    """
    files = [path.resolve() for path in paths if path.is_file() or not path.exists()]
    for number, path in enumerate(files):
        if path in files[:number]:
            raise click.UsageError(f"{path} is given twice: INPUT and what is written are files of their own")


def _writable(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise click.FileError(str(path), hint=error.strerror) from error


def _judge() -> Callable[[list[Prompt]], list[Moderation]]:
    """Return the moderation stage as a function, with the thresholds of the settings."""
    from connectors.moderators.offline import OfflineModerator
    from streams.prompts.moderation.logic import Policy, verdict
    from streams.settings import load

    settings = load().moderation
    moderator = OfflineModerator()
    policy = Policy(settings.policy_version, settings.threshold, settings.thresholds, settings.tenants)

    def judge(prompts: list[Prompt]) -> list[Moderation]:
        scores = asyncio.run(moderator.score([prompt.text for prompt in prompts]))
        return [
            verdict(score, policy, prompt.tenant, moderator.name) for prompt, score in zip(prompts, scores, strict=True)
        ]

    return judge


class _progress:  # noqa: N801  reads as a verb where it is used
    """Two bars on standard error, one a pass; none when quiet."""

    def __init__(self, source: Path, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._size = source.stat().st_size
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )

    def __enter__(self) -> Callable[[str], Callable[[int], None]]:
        self._bars.start()
        return self._bar

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _bar(self, name: str) -> Callable[[int], None]:
        task = self._bars.add_task(name, total=self._size)
        return lambda size: self._bars.advance(task, size)


def _show_templates(largest: list[Mined]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from streams.cli.render import console, slot_values_text, template_text

    screen = console()
    for mined in largest:
        head = Text(f"{mined.prompts:6,}  ", style="bold green")
        head.append(f"{mined.version or 'still learnt'}  cluster {mined.cluster_id[:8]}", style="dim")
        screen.print(head)
        text = template_text(mined.template or "(no template reads them)", mined.example, lines_max=TEMPLATE_LINES)
        screen.print(Padding(text, (0, 0, 0, 8)))
        screen.print(Padding(slot_values_text(mined.example), (0, 0, 1, 10)))


def _show(summary: Summary, *, moderated: bool) -> None:
    moderation = f", {summary.rejected:,} rejected" if moderated else " (not moderated)"
    click.echo(
        f"{summary.prompts:,} prompts{moderation}: {summary.clustered:,} in {len(summary.templates):,} clusters, "
        f"{summary.prompts - summary.rejected - summary.clustered:,} alone, {summary.raw:,} kept raw, "
        f"{summary.duplicates:,} repeated ids"
    )
    for kind, count in sorted(summary.events.items()):
        click.echo(f"  {kind:<16} {count:,}")
    if summary.bad_lines or summary.refused:
        click.secho(f"{summary.bad_lines + summary.refused:,} lines were no usable prompts:", fg="yellow", err=True)
        for line, problem in summary.problems:
            click.echo(f"  line {line}: {problem}", err=True)
