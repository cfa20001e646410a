"""`promptloom topics`: make the topics of the topics table, list and describe them, print their schemas."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click
import orjson

from schemas.topics import PROMPTS, TOPICS, Topic

if TYPE_CHECKING:
    from connectors.kafka.admin import Admin, TopicState
    from streams.settings import Settings

KEPT_FOR_GOOD_MS = -1
TOPIC_NAME = click.Choice([topic.name for topic in TOPICS])


@click.group()
def topics() -> None:
    """Make, list and describe the topics; print their schemas."""


@topics.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def create(as_json: bool) -> None:
    """Make the topics that are missing; nothing happens to those that are right."""
    settings, admin = _connected()
    outcomes = admin.create(
        TOPICS, partitions=settings.kafka.partitions, replication_factor=settings.kafka.replication_factor
    )
    if as_json:
        click.echo(orjson.dumps(outcomes))
        return
    for name, outcome in outcomes.items():
        click.echo(f"{outcome.value:10} {name}")


@topics.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_topics(as_json: bool) -> None:
    """Show every topic of the table and whether the broker has it."""
    settings, admin = _connected()
    states = admin.states([topic.name for topic in TOPICS])
    if as_json:
        rows = [_row(topic, states.get(topic.name), settings.kafka.partitions) for topic in TOPICS]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("topic", no_wrap=True)
    for heading in ("partitions", "kept for", "key", "state"):
        table.add_column(heading)
    for topic in TOPICS:
        state = states.get(topic.name)
        partitions = state.partitions if state else topic.partitions or settings.kafka.partitions
        condition = _condition(topic, state, settings.kafka.partitions)
        table.add_row(topic.name, str(partitions), _kept_for(topic), topic.key, condition)
    Console().print(table)


@topics.command()
@click.argument("name", type=TOPIC_NAME)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def describe(name: str, as_json: bool) -> None:
    """Show one topic: what it carries, and its configuration as the broker has it."""
    from connectors.kafka.admin import configuration_of

    topic = _named(name)
    settings, admin = _connected()
    state = admin.states([name]).get(name)
    row = _row(topic, state, settings.kafka.partitions)
    if as_json:
        click.echo(orjson.dumps(row, option=orjson.OPT_INDENT_2))
        return
    for label, value in row.items():
        if label != "configuration":
            click.echo(f"{label:22} {value}")
    wanted, found = configuration_of(topic), state.configuration if state else {}
    for entry, value in wanted.items():
        note = "" if found.get(entry) == value else f"  (table: {value})"
        click.echo(f"  {entry:24} {found.get(entry, '-')}{note}")


@topics.command()
@click.argument("name", type=TOPIC_NAME)
@click.option("--avro", is_flag=True, help="The Avro schema; `prompts` has both. Internal topics carry Avro only.")
def schema(name: str, avro: bool) -> None:
    """Print the schema of a topic's records: JSON Schema, or Avro. Needs no broker."""
    topic = _named(name)
    if topic.model is None:
        raise click.UsageError(f"{name} carries no records of one shape: {topic.value}")
    if avro or not topic.public:
        from streams.engine.frames import definition_of

        if topic.public and topic is not PROMPTS:
            raise click.UsageError(f"{name} carries JSON, not Avro")
        shown = definition_of(topic.model)
    else:
        shown = topic.model.model_json_schema()
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))


def _named(name: str) -> Topic:
    return next(topic for topic in TOPICS if topic.name == name)


def _connected() -> tuple[Settings, Admin]:
    from connectors.kafka.admin import Admin
    from streams.cli.common import located_settings

    settings = located_settings(postgres=False)
    return settings, Admin(settings.kafka)


def _row(topic: Topic, state: TopicState | None, partitions: int) -> dict[str, object]:
    from connectors.kafka.admin import configuration_of

    broker = state.configuration if state else {}
    return {
        "name": topic.name,
        "state": _condition(topic, state, partitions),
        "public": topic.public,
        "key": topic.key,
        "value": topic.value,
        "partitions": state.partitions if state else topic.partitions or partitions,
        "replication_factor": state.replication_factor if state else None,
        "kept_for": _kept_for(topic),
        "configuration": {
            entry: {"table": value, "broker": broker.get(entry)} for entry, value in configuration_of(topic).items()
        },
    }


def _condition(topic: Topic, state: TopicState | None, partitions: int) -> str:
    from connectors.kafka.admin import differences

    if state is None:
        return "missing"
    if state.partitions != (topic.partitions or partitions):
        return "other partitions"
    return "other configuration" if differences(topic, state) else "ok"


def _kept_for(topic: Topic) -> str:
    if topic.compacted:
        return "newest per key"
    if topic.retention_ms == KEPT_FOR_GOOD_MS:
        return "for good"
    days = timedelta(milliseconds=topic.retention_ms).days
    return f"{days} day{'' if days == 1 else 's'}"
