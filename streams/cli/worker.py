"""`promptloom worker`: the stream processor itself."""

from __future__ import annotations

import click


@click.command()
def worker() -> None:
    """Run all agents until SIGTERM: moderation, embedding, clustering, canonicalization.

    Creates missing topics first. Start as many workers as you like, they share the partitions.
    """
    from streams.cli.common import located_settings
    from streams.engine import logs

    settings = located_settings(postgres=False)
    logs.configure(settings.logging.level, settings.logging.format)
    # After the logs: the connectors behind it take seconds to import, and may have something to say.
    from streams.prompts.worker import run

    run(settings)
