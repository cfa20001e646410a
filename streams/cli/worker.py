"""`promptloom worker`: the stream processor itself, in one process or several."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.engine.supervisor import Command
    from streams.settings import Settings

PROCESSES_MAX = 64  # of one machine; more than partitions are idle anyway


@click.command()
@click.option(
    "--processes",
    type=click.IntRange(1, PROCESSES_MAX),
    help="Keep so many workers alive, each a process of its own, and start those again that end.",
)
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input closes.")
def worker(processes: int | None, supervised: bool) -> None:
    """Run all agents until SIGTERM: moderation, embedding, clustering, canonicalization.

    Creates missing topics first, and waits for the broker if need be. Start as many workers as you like, here
    or elsewhere; they share the partitions.

    With --processes, exit code 0 means that all workers stopped in good order, 78 that they cannot run with these
    settings, 1 that one had to be killed.
    """
    from streams.engine.supervisor import Supervisor, end_with_parent, leave_on_signal

    leave_on_signal()
    if supervised:
        end_with_parent()
    from streams.cli.common import located_settings
    from streams.engine import logs

    settings = located_settings(postgres=False)
    logs.configure(settings.logging.level, settings.logging.format, instance=settings.logging.instance)
    if processes is not None:
        logging.getLogger(__name__).info("supervisor started", extra={"processes": processes})
        code = asyncio.run(Supervisor(commands(settings, processes)).run())
        raise click.exceptions.Exit(code)
    # After the logs: the connectors behind it take seconds to import, and may have something to say.
    from streams.prompts.worker import run

    run(settings)


def commands(settings: Settings, processes: int) -> list[Command]:
    """Return the commands of several workers; what only one of them may have is numbered."""
    from streams.engine.supervisor import Command

    arguments = (sys.executable, "-m", "streams.cli", "worker", "--supervised")
    found = []
    for number in range(1, processes + 1):
        name = f"worker-{number}"
        environment = {
            "PROMPTLOOM_LOGGING__INSTANCE": name,
            "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        }
        if settings.metrics.worker_port:
            environment["PROMPTLOOM_METRICS__WORKER_PORT"] = str(settings.metrics.worker_port + number - 1)
        if settings.engine.group_instance_id:
            environment["PROMPTLOOM_ENGINE__GROUP_INSTANCE_ID"] = f"{settings.engine.group_instance_id}-{number}"
        found.append(Command(name, arguments, environment))
    return found
