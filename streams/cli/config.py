"""`promptloom config`: the settings as they are, and the example file."""

from __future__ import annotations

import click

from streams import settings


@click.group()
def config() -> None:
    """Show and check the settings."""


@config.command()
def example() -> None:
    """Print config.example.yaml: every setting, its default and what it is for."""
    click.echo(settings.example_yaml(), nl=False)


@config.command()
def check() -> None:
    """Read the settings from file and environment, report all problems at once, show the result."""
    loaded = settings.load()
    click.echo(loaded.model_dump_json(indent=2))
    click.echo("the settings are valid; secrets are shown as stars", err=True)
