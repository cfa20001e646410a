"""The command line. One module per group of commands; each imports what it needs when it runs.

Loading lazily keeps `promptloom --help` instant and lets a production worker do without
the extras (embedded broker and database) whose commands it never runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import click

from schemas.errors import PromptloomError, SettingsInvalid, StateIncompatible
from streams.engine.limits import EXIT_CODE_SETTINGS

# Command -> module under streams.cli that defines it, in the order of `--help`.
COMMANDS: dict[str, str] = {
    "demo": "demo",
    "up": "services",
    "down": "services",
    "status": "services",
    "topics": "topics",
    "migrate": "sink",
    "worker": "worker",
    "sink": "sink",
    "replay": "replay",
    "tail": "tail",
    "dead-letters": "dead_letters",
    "clusters": "catalogue",
    "show": "catalogue",
    "why": "catalogue",
    "validate": "validate",
    "stats": "catalogue",
    "mine": "mine",
    "calibrate": "calibrate",
    "config": "config",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streams.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"streams.cli.{COMMANDS[cmd_name]}.{cmd_name} is not a click command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="promptloom")
def promptloom() -> None:
    """Tell, live, which prompt templates are behind your LLM traffic.

    Start with `promptloom demo`; then `promptloom up`, `worker`, `sink`, `replay`, `tail`.
    """


def main() -> None:
    """Run the command line; a known error becomes one clear message and exit code 1, or 78 for wrong settings."""
    sys.exit(run(promptloom))


def run(command: Callable[..., object]) -> int:
    """Run a click command and return its exit code."""
    try:
        # Outside its standalone mode click returns the code of an `Exit` that a command raised.
        code = command(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:  # `promptloom tail | head`
        sys.stderr.close()
        return 0
    except PromptloomError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        if error.hint:
            click.echo(f"  -> {error.hint}", err=True)
        return EXIT_CODE_SETTINGS if isinstance(error, SettingsInvalid | StateIncompatible) else 1
    return code if isinstance(code, int) else 0
