"""`promptloom dead-letters`: what could not be processed, why, and back to where it came from."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streams.engine.letters import DeadLetter, Filters
    from streams.prompts.dead_letters import DeadLetterBox, Replayed

LIST_LIMIT = 100
LIST_COLUMNS = "{:<24} {:<20} {:<14} {:<22} {:<28} {:>8} {:<4}  {}"
LIST_TITLES = ("position", "at (UTC)", "stage", "error", "came from", "bytes", "sent", "why")
REFUSALS_SHOWN = 20
REVEALED = "what follows is the text of a prompt, as it was sent"

filter_option = click.option(
    "--filter",
    "-f",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="stage, error, topic (it came from), tenant, key, position, after, before. Repeat it to narrow down; "
    "several of one name are alternatives. Times: 2026-05-01T12:30 (UTC), or 2h ago as `after=2h`.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


@click.group(name="dead-letters")
def dead_letters() -> None:
    """See what could not be processed and why; send it back once the cause is mended.

    A letter is named by its position: 3-17 (partition and offset in dead-letters), dead-letters-3-17, or the
    place of the record it was made of, as prompts-1-204.
    """


@dead_letters.command(name="list")
@filter_option
@click.option("--limit", default=LIST_LIMIT, show_default=True, type=click.IntRange(min=1), help="Stop after so many.")
@json_option
def list_letters(filters: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List dead letters, oldest first in each partition. Never shows the text of a prompt.

    With --json one object a line, written as it is read.
    """
    from streams.prompts.dead_letters import mark_of

    shown = 0
    meant = _understood(filters)
    with _box() as box:
        marks = box.marks()
        for letter in box.letters(meant):
            if shown == limit:
                click.echo(f"there are more: --limit {limit} reached", err=True)
                break
            sent = mark_of(letter) in marks
            if as_json:
                click.echo(_json_line(_facts(letter, sent=sent)))
            else:
                if not shown:
                    click.secho(LIST_COLUMNS.format(*LIST_TITLES), bold=True)
                click.echo(_row(letter, sent=sent))
            shown += 1
    if not shown:
        click.echo("no dead letters" + (" pass the filters" if filters else ""), err=True)


@dead_letters.command()
@click.argument("position")
@click.option("--reveal", is_flag=True, help="Write the original bytes to standard output: the text of a prompt.")
@json_option
def show(position: str, reveal: bool, as_json: bool) -> None:
    """Show one dead letter: why it is one, its key and headers; with --reveal its bytes as they came.

    With --reveal the bytes alone go to standard output (with --json as base64) and the rest to standard error, so
    that they can be piped. On a terminal, control characters are shown as escapes.
    """
    from streams.engine.letters import place
    from streams.prompts.dead_letters import mark_of

    named = place(position)
    if named is None:
        raise click.BadParameter(f"{position!r} is no position; write 3-17 or prompts-1-204", param_hint="POSITION")
    with _box() as box:
        letter = box.at(named, _understood(()))
        facts = _facts(letter, sent=mark_of(letter) in box.marks())
    facts["headers"] = {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in letter.headers}
    if as_json:
        _show_as_json(letter, facts, reveal=reveal)
        return
    for name, value in facts.items():
        click.echo(f"{name:<12} {_printable(value)}", err=reveal)
    if not reveal:
        click.echo(f"{'value':<12} not shown: it may be the text of a prompt (--reveal)")
        return
    click.secho(REVEALED, fg="yellow", err=True)
    _write_value(letter.record.value or b"")


@dead_letters.command()
@filter_option
@click.option("--all", "everything", is_flag=True, help="Every letter; needed where no filter is given.")
@click.option("--limit", type=click.IntRange(min=1), help="Send at most so many.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@json_option
def replay(filters: tuple[str, ...], everything: bool, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Send dead letters back to the topic they came from: original bytes, key and headers.

    Each letter is sent once, however often and wherever this runs. One that fails again comes back as a new letter.
    """
    from streams.prompts.dead_letters import Replayed

    if not filters and not everything:
        raise click.UsageError("say which letters: --filter NAME=VALUE, or --all")
    meant = _understood(filters)
    outcome = Replayed()
    with _box(sending=not dry_run) as box:
        try:
            box.replay(meant, limit=limit, dry_run=dry_run, outcome=outcome)
        finally:  # also where it stopped half-way: what was sent until then is sent
            _tell(outcome, dry_run=dry_run, as_json=as_json)


def _box(*, sending: bool = False) -> DeadLetterBox:
    from connectors.kafka.admin import Admin
    from connectors.kafka.client import confluent_configuration
    from schemas.topics import DEAD_LETTERS_REPLAYED
    from streams.cli.common import located_settings
    from streams.prompts.dead_letters import DeadLetterBox

    settings = located_settings(postgres=False)
    if sending:
        # Workers make it as well, but those of an older version did not.
        Admin(settings.kafka).create(
            [DEAD_LETTERS_REPLAYED],
            partitions=settings.kafka.partitions,
            replication_factor=settings.kafka.replication_factor,
        )
    return DeadLetterBox(confluent_configuration(settings.kafka), app_id=settings.engine.app_id)


def _understood(filters: tuple[str, ...]) -> Filters:
    from streams.engine.letters import FilterInvalid, Filters

    try:
        return Filters(filters, datetime.now(UTC))
    except FilterInvalid as error:
        raise click.UsageError(f"{error} ({error.hint})") from None


def _facts(letter: DeadLetter, *, sent: bool) -> dict[str, Any]:
    return {
        "position": str(letter.place),
        "at": _moment(letter),
        "stage": letter.stage,
        "error": letter.error,
        "message": letter.message,
        "came_from": str(letter.origin) if letter.origin else "",
        "tenant": letter.tenant,
        "key": letter.key,
        "value_bytes": letter.value_bytes,
        "cut": letter.cut,
        "sent_back": sent,
    }


def _row(letter: DeadLetter, *, sent: bool) -> str:
    columns = (
        letter.place,
        _moment(letter),
        letter.stage,
        letter.error,
        letter.origin or "",
        letter.value_bytes,
        "yes" if sent else "",
        letter.message,
    )
    return LIST_COLUMNS.format(*(_printable(column).replace("\n", " ") for column in columns)).rstrip()


def _show_as_json(letter: DeadLetter, facts: dict[str, Any], *, reveal: bool) -> None:
    from base64 import b64encode

    if reveal:
        facts["value_base64"] = b64encode(letter.record.value or b"").decode()
        click.secho(REVEALED, fg="yellow", err=True)
    click.echo(_json_line(facts))


def _write_value(value: bytes) -> None:
    if sys.stdout.isatty():
        click.echo(_printable(value.decode("utf-8", "backslashreplace")))
        return
    click.get_binary_stream("stdout").write(value)


def _tell(outcome: Replayed, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        refused = [{"position": str(place), "why": why} for place, why in outcome.refused]
        counts = {"sent": outcome.sent, "sent_before": outcome.sent_before, "refused": refused, "dry_run": dry_run}
        click.echo(_json_line(counts))
        return
    click.echo(f"{outcome.sent} {'would be sent' if dry_run else 'sent'} back, {outcome.sent_before} sent before")
    for place, why in outcome.refused[:REFUSALS_SHOWN]:
        click.echo(f"not sent: {place}: {_printable(why)}", err=True)
    hidden = len(outcome.refused) - REFUSALS_SHOWN
    if hidden > 0:
        click.echo(f"not sent: {hidden} more", err=True)


def _moment(letter: DeadLetter) -> str:
    from streams.cli.render import moment

    return moment(letter.record.timestamp_ms)


def _printable(value: object) -> str:
    from streams.cli.render import printable

    return printable(str(value))


def _json_line(value: object) -> str:
    import json

    return json.dumps(value).replace("\x7f", "\\u007f")
