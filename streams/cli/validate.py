"""`promptloom validate`: do prompts keep to a template?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from streams.cli.catalogue import schema_of

PROBLEMS_SHOWN_MAX = 20


@click.command()
@click.argument("template", metavar="CLUSTER|SCHEMA")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def validate(template: str, source: Path) -> None:
    """Check the prompts in FILE against a template: are its fixed parts there, do the slots hold what they should?

    CLUSTER is an id as `promptloom clusters` lists it; SCHEMA a file that `promptloom show CLUSTER --schema` wrote,
    for which no database is needed. FILE holds JSON lines with `text` or `messages`, plain or .gz, or is a .txt with
    one prompt; - is standard input. Exits with 1 if a prompt is not valid. Values are not printed.
    """
    from streams.cli.render import printable
    from streams.prompts.canonicalization.contract import problems

    schema = _schema(template)
    checked = invalid = 0
    for place, text in _prompts(source):
        found = problems(schema, text)
        checked += 1
        invalid += bool(found)
        if found and invalid <= PROBLEMS_SHOWN_MAX:
            click.echo(f"{place}: {printable('; '.join(found))}")
    if invalid > PROBLEMS_SHOWN_MAX:
        click.echo(f"... and {invalid - PROBLEMS_SHOWN_MAX:,} more")
    click.echo(f"{checked - invalid:,} of {checked:,} prompts are valid")
    if invalid or not checked:
        raise click.exceptions.Exit(1)


def _schema(template: str) -> dict[str, Any]:
    path = Path(template)
    if not path.is_file():
        return schema_of(template)
    try:
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(schema["x-template"], str) and isinstance(schema["properties"], dict):
            return schema
    except (ValueError, KeyError, TypeError):
        pass  # said below, whatever of the three it was
    raise click.ClickException(
        f"{template} is no schema of a template\n  -> promptloom show CLUSTER --schema > schema.json"
    )


def _prompts(source: Path) -> Iterator[tuple[str, str]]:
    """Yield each prompt with where it stands."""
    from schemas import limits
    from schemas.errors import InputError
    from streams.engine.ports import Record
    from streams.prompts import ingest
    from streams.prompts.mine import NoSchemas, lines_of

    if source.suffix == ".txt":
        try:
            yield str(source), source.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise click.ClickException(f"{source} is no text in UTF-8") from None
        return
    stdin = click.get_binary_stream("stdin") if str(source) == "-" else None
    lines = enumerate(stdin, 1) if stdin else lines_of(source, lambda _: None)
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = Record("prompts", 0, number, limits.CREATED_AT_MS_MIN, None, line)
            yield f"line {number}", ingest.decode(record, NoSchemas()).text
        except InputError as error:
            raise click.ClickException(f"line {number}: {error}") from None
