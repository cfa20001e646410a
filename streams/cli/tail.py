"""`promptloom tail`: evolution events as they happen."""

from __future__ import annotations

from collections.abc import Iterator

import click
from pydantic import ValidationError

from schemas.events import EvolutionEvent, EvolutionType


@click.command()
@click.option("--from-beginning", is_flag=True, help="Start with the oldest event instead of the next one.")
@click.option("--tenant", help="Only events of this tenant.")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice([kind.value for kind in EvolutionType]),
    help="Only these types.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON event a line, as published.")
@click.option("--no-diff", is_flag=True, help="Leave the diffs out.")
def tail(
    from_beginning: bool, tenant: str | None, types: tuple[str, ...], limit: int | None, as_json: bool, no_diff: bool
) -> None:
    """Follow the evolution events: templates created, changed, drifting, splitting, merging."""
    from streams.cli.render import console, event_text

    screen = console()
    shown = 0
    for value in _events(from_beginning=from_beginning):
        try:
            event = EvolutionEvent.model_validate_json(value)
        except ValidationError as error:
            click.secho(f"skipped a record that is no evolution event: {error.error_count()} problem(s)", err=True)
            continue
        if (tenant and event.tenant != tenant) or (types and event.type.value not in types):
            continue
        if as_json:
            click.echo(value)
        else:
            screen.print(event_text(event, with_diff=not no_diff), end="")
        shown += 1
        if shown == limit:
            return


def _events(*, from_beginning: bool) -> Iterator[bytes]:
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

    from connectors.kafka.client import confluent_configuration
    from schemas.errors import ServiceUnavailable
    from schemas.topics import EVOLUTION_EVENTS
    from streams.cli.common import located_settings

    settings = located_settings(postgres=False)
    consumer = Consumer(
        {
            **confluent_configuration(settings.kafka),
            # Partitions are assigned by hand: a reader leaves no group and no offsets behind.
            "group.id": "promptloom-tail",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        metadata = consumer.list_topics(EVOLUTION_EVENTS.name, timeout=10)
        partitions = metadata.topics[EVOLUTION_EVENTS.name].partitions
        if not partitions:
            raise ServiceUnavailable(
                "reading evolution-events: the topic does not exist", hint="promptloom topics create"
            )
        offset = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(EVOLUTION_EVENTS.name, number, offset) for number in partitions])
        while True:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            if (value := message.value()) is not None:
                yield value
    except KafkaException as error:
        raise ServiceUnavailable(
            f"reading evolution-events from {settings.kafka.bootstrap_servers}: {error.args[0].str()}",
            hint="promptloom status shows whether the broker runs",
        ) from error
    finally:
        consumer.close()
