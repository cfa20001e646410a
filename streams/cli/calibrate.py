"""`promptloom calibrate`: measure the embedder on your own prompts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.prompts.calibration.logic import Calibration

PROMPTS_DEFAULT = 20_000  # enough for the first percentile of a hundred clusters, embedded in seconds


@click.command()
@click.argument(
    "source", metavar="[FILE]", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--tenant", default="default", show_default=True, help="Whose prompts they are.")
@click.option(
    "--limit",
    default=PROMPTS_DEFAULT,
    show_default=True,
    type=click.IntRange(min=1),
    help="Prompts taken from the catalogue: the newest.",
)
@click.option("--dry-run", is_flag=True, help="Measure and propose; store nothing.")
def calibrate(source: Path | None, tenant: str, limit: int, *, dry_run: bool) -> None:
    """Measure the embedder on your own prompts and store the threshold that follows.

    FILE holds JSON lines with `text` or `messages` (plain or .gz). Without it the newest prompts of the
    catalogue are taken. Workers and `promptloom mine` apply what is stored when they start.
    """
    from streams.prompts.calibrated import measured, path_of, store
    from streams.prompts.clustering.policy import Policy
    from streams.prompts.worker import embedder_of
    from streams.settings import load

    settings = load()
    embedder = embedder_of(settings)
    with tempfile.TemporaryDirectory(prefix="promptloom-calibrate-") as folder, asyncio.Runner() as runner:
        path = source or _catalogue(Path(folder) / "prompts.jsonl", tenant, limit)
        calibration, summary = measured(path, embedder, lambda texts: runner.run(embedder.embed(texts)))
    if summary.bad_lines or summary.refused:
        click.secho(f"{summary.bad_lines + summary.refused:,} lines were no usable prompts", fg="yellow", err=True)
    _show(calibration, embedder.name, tenant, Policy().of(tenant, embedder.name).meaning_min)
    if dry_run:
        click.echo("nothing stored (--dry-run)")
        return
    store(path_of(settings), embedder.name, tenant, calibration)
    click.echo(f"stored in {path_of(settings)}; workers apply it when they start")


def _catalogue(path: Path, tenant: str, limit: int) -> Path:
    """Write the newest prompts of a tenant into a file, oldest first."""
    import orjson

    from connectors.postgres.reader import Reader
    from schemas.errors import InputError
    from streams.cli.common import located_settings

    dsn = located_settings(kafka=False).postgres.dsn.get_secret_value()

    async def texts() -> list[str]:
        reader = Reader(dsn)
        try:
            return await reader.texts(tenant=tenant, limit=limit)
        finally:
            await reader.close()

    found = asyncio.run(texts())
    if not found:
        raise InputError(
            f"calibrating tenant {tenant}: the catalogue holds no prompt of it",
            hint="name a FILE of JSON lines with `text`, or another --tenant",
        )
    path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in found))
    return path


def _show(calibration: Calibration, embedder: str, tenant: str, default: float) -> None:
    from rich.table import Table

    from streams.cli.render import console

    click.echo(f"{embedder} on {calibration.prompts:,} prompts of tenant {tenant}, {calibration.clusters:,} clusters")
    table = Table("cosine of", *(f"p{percent}" for percent in calibration.random))
    rows: tuple[tuple[str, Mapping[int, float]], ...] = (
        ("two prompts at random", calibration.random),
        ("a prompt and its own cluster", calibration.members),
        ("a prompt and the nearest other", calibration.strangers),
    )
    for what, percentiles in rows:
        table.add_row(what, *(f"{value:.3f}" for value in percentiles.values()))
    console().print(table)
    click.echo(
        f"meaning_min {calibration.meaning_min:g} instead of {default:g}: {calibration.members_reached:.0%} of the "
        f"prompts are as near to their own cluster, {calibration.strangers_reached:.0%} to another"
    )
