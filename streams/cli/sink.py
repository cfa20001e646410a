"""`promptloom sink` and `promptloom migrate`: the topics into Postgres and Qdrant, and the tables they go into."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.settings import Settings


@click.command()
@click.option("--only", type=click.Choice(["postgres", "qdrant"]), help="Run this sink alone.")
@click.option("--skip-expired", is_flag=True, help="Go on without records Kafka deleted before they were written.")
def sink(only: str | None, skip_expired: bool) -> None:
    """Write prompts, clusters, templates and events to Postgres, and vectors to Qdrant, until stopped.

    Migrates the database first. Qdrant is left out where qdrant.enabled is false.
    """
    from streams.engine.supervisor import leave_on_signal

    leave_on_signal()
    from infra import migrations
    from infra.embedded.addresses import resolve
    from streams.engine import logs
    from streams.prompts.sinks import NAMES, POSTGRES, QDRANT
    from streams.settings import load

    names = (only,) if only else NAMES
    settings = load()
    if only is None and not settings.qdrant.enabled:
        names = (POSTGRES,)
    logs.configure(settings.logging.level, settings.logging.format, instance=settings.logging.instance)
    settings = resolve(settings, postgres=POSTGRES in names)
    if POSTGRES in names:
        migrations.upgrade(settings.postgres.dsn.get_secret_value())
    if QDRANT in names:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_run(settings, names, skip_expired=skip_expired))


@click.command()
@click.option("--down", "down_to", metavar="REVISION", help="Migrate down to this revision; `base` drops all tables.")
def migrate(down_to: str | None) -> None:
    """Bring the database's tables to the newest revision, or down to an older one."""
    from infra import migrations
    from infra.embedded.addresses import resolve
    from streams.settings import load

    dsn = resolve(load(), kafka=False).postgres.dsn.get_secret_value()
    before = migrations.current(dsn)
    after = migrations.downgrade(dsn, down_to) if down_to else migrations.upgrade(dsn)
    named = f"revision {after}" if after else "no tables"
    click.echo(f"the database is at {named}" + (" (as before)" if before == after else f" (was {before or 'empty'})"))


async def _run(settings: Settings, names: tuple[str, ...], *, skip_expired: bool) -> None:
    import signal

    from streams.engine import health
    from streams.engine.sink_metrics import SinkMetrics
    from streams.prompts.sinks import Sinks

    observer = SinkMetrics("promptloom")
    sinks = Sinks(settings, names, observer=observer, skip_expired=skip_expired)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    vitals = health.Vitals(sinks.reasons)
    if settings.metrics.enabled:
        port = health.serve(settings.metrics.host, settings.metrics.sink_port, observer.registry, vitals)
        click.echo(f"metrics at http://{settings.metrics.host}:{port}/metrics", err=True)
    async with vitals.beating():
        await sinks.run(stop)
