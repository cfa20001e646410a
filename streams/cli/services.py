"""`promptloom up`, `down` and `status`: the embedded Kafka broker and PostgreSQL."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.embedded.service import Service
    from streams.settings import Settings

EXIT_NOT_RUNNING = 3  # as `systemctl status` does


@click.command()
def up() -> None:
    """Start the embedded Kafka broker and PostgreSQL, or find them running; they stay until `down`."""
    from infra import embedded
    from streams.settings import load

    settings = load()
    click.echo("starting Kafka and PostgreSQL (the first start also fetches the broker, 45 MB)", err=True)
    services = embedded.up(settings.data_dir, settings.cache_dir)
    for service in (services.kafka, services.postgres):
        if service is None:
            continue
        if service in services.started:
            how = "started"
        else:
            how = "was running" if service.detached else "was running, and ends with the command that started it"
        click.echo(f"{service.title:14} {service.address}  ({how})")
        if service.ports_lost:
            click.echo(f"{'':14} port {service.ports_lost[0]}, used before, is taken by another program")
    _name_other_addresses(settings)
    click.echo("\nnext: `promptloom status` shows where they live, `promptloom down` stops them")


@click.command()
def down() -> None:
    """Stop the embedded services; their data stay."""
    from infra import embedded
    from streams.settings import load

    settings = load()
    stopped = embedded.down(settings.data_dir, settings.cache_dir)
    for service in stopped:
        click.echo(f"{service.title:14} stopped; data kept in {service.folder}")
    if not stopped:
        click.echo("nothing is running")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option(
    "--dsn", is_flag=True, help='Only the database address, with its password: psql "$(promptloom status --dsn)"'
)
@click.option("--bootstrap", is_flag=True, help="Only the broker's address, for kcat and clients of your own.")
def status(*, as_json: bool, dsn: bool, bootstrap: bool) -> None:
    """Show which embedded services run, where, and how much room they take.

    Exit code 0 when both run, 3 when not.
    """
    from infra import embedded
    from streams.settings import load

    settings = load()
    if dsn:
        click.echo(embedded.resolve(settings, kafka=False).postgres.dsn.get_secret_value())
        return
    if bootstrap:
        click.echo(embedded.resolve(settings, postgres=False).kafka.bootstrap_servers)
        return
    services = embedded.all_of(settings.data_dir, settings.cache_dir)
    if as_json:
        import json

        click.echo(json.dumps([_facts(service) for service in services], indent=2))
    else:
        _print_table(services)
        _name_other_addresses(settings)
    if not all(service.running for service in services):
        sys.exit(EXIT_NOT_RUNNING)


def _facts(service: Service) -> dict[str, str | int | None]:
    pid = service.child.identity.pid if service.running and service.child else None
    return {
        "service": service.name,
        "version": service.version,
        "state": "running" if pid else "stopped",
        "address": service.address if pid else None,
        "pid": pid,
        "data": str(service.folder),
        "data_bytes": _size_bytes(service.folder),
        "log": str(service.log),
    }


def _print_table(services: Sequence[Service]) -> None:
    for service in services:
        facts = _facts(service)
        colour = "green" if facts["pid"] else "yellow"
        click.echo(f"{service.title} {service.version}: " + click.style(str(facts["state"]), fg=colour))
        if facts["pid"]:
            click.echo(f"  address  {facts['address']}\n  process  {facts['pid']}")
        click.echo(
            f"  data     {facts['data']} ({_size_bytes(service.folder) / 1e6:.1f} MB)\n  log      {facts['log']}"
        )


def _size_bytes(folder: Path) -> int:
    """Return the room a folder takes on disk (Kafka's index files are mostly holes)."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _name_other_addresses(settings: Settings) -> None:
    """Say so when the configuration points elsewhere, or a person wonders why nothing arrives here."""
    if settings.kafka.bootstrap_servers:
        click.echo(f"\nthe settings name another Kafka, which is used instead: {settings.kafka.bootstrap_servers}")
    if settings.postgres.dsn.get_secret_value():
        click.echo("\nthe settings name another PostgreSQL (postgres.dsn), which is used instead")
