"""The README tells the truth: its commands parse, its paths, topics, settings and metrics exist, its code runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from schemas import cloudevents
from schemas.events import EvolutionEvent, EvolutionType
from schemas.prompts import PromptSubmitted
from schemas.topics import EVOLUTION_EVENTS, PROMPTS, TOPICS
from streams.cli import promptloom
from streams.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES_MAX = 560
RUN_TIMEOUT_S = 60

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(README)]
INLINE = re.findall(r"`([^`\n]+)`", BLOCK.sub("", README))
PACKAGES = ("Dataset/", "connectors/", "infra/", "schemas/", "streams/", "tests/")
END_OF_COMMAND = {"|", ">", "&&", ";", ")"}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def words_behind_promptloom(line: str) -> Iterator[list[str]]:
    """Yield the words of each call of promptloom in a line of shell, also inside `$(...)`."""
    lexer = shlex.shlex(line.replace('"$(', "$( ").replace(')"', " )"), posix=True, punctuation_chars="|>;&()")
    lexer.whitespace_split = True
    words = list(lexer)
    for start, word in enumerate(words):
        if word == "promptloom":
            rest = words[start + 1 :]
            end = next((place for place, other in enumerate(rest) if other in END_OF_COMMAND), len(rest))
            yield rest[:end]


LINES = [line for text in blocks("sh") for line in text.splitlines()]
CALLS = [words for line in LINES for words in words_behind_promptloom(line)]
MENTIONS = [words for code in INLINE if code.startswith("promptloom ") for words in words_behind_promptloom(code)]


def command_of(words: list[str]) -> tuple[click.Context, list[str]]:
    """Return the command that the words name, down to the last subcommand, and the words behind it."""
    context = click.Context(promptloom, info_name="promptloom")
    rest = list(words)
    while isinstance(context.command, click.Group) and rest:
        command = context.command.get_command(context, rest[0])
        assert command is not None, f"promptloom {' '.join(words)}: there is no command {rest[0]}"
        context = click.Context(command, info_name=rest.pop(0), parent=context)
    return context, rest


def parsed(words: list[str], *, complete: bool) -> None:
    """Parse a command line as click would, without asking whether its files exist, and without running it."""
    context, rest = command_of(words)
    options, extra, _ = context.command.make_parser(context).parse_args(rest)
    assert not extra, f"promptloom {' '.join(words)}: {extra} is too much"
    for parameter in context.command.get_params(context):
        if not isinstance(parameter.type, click.Path) and isinstance(options.get(str(parameter.name)), str | list):
            parameter.type_cast_value(context, options[str(parameter.name)])
        if complete and parameter.required:
            assert options.get(str(parameter.name)), f"promptloom {' '.join(words)}: {parameter.name} is missing"
    assert not complete or not isinstance(context.command, click.Group), f"promptloom {' '.join(words)} does nothing"


def every_command() -> Iterator[str]:
    context = click.Context(promptloom)
    for name in promptloom.list_commands(context):
        command = promptloom.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner in command.list_commands(context))
        else:
            yield name


def test_it_is_short_and_names_no_machine() -> None:
    assert len(README.splitlines()) <= LINES_MAX
    assert not re.search(r"/work/|/tmp/|/root/|/home/", README)


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_each_command_line_is_one_that_promptloom_takes(words: list[str]) -> None:
    parsed(words, complete=True)


@pytest.mark.parametrize("words", MENTIONS, ids=" ".join)
def test_each_command_in_the_text_exists(words: list[str]) -> None:
    parsed(words, complete=False)


def test_a_command_line_with_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["tail", "--from-the-beginning"], complete=True)
    with pytest.raises(click.BadParameter):
        parsed(["tail", "--type", "SLOT_LOST"], complete=True)


def test_every_command_is_documented() -> None:
    named = [" ".join(words) for words in (*CALLS, *MENTIONS)]
    missing = [name for name in every_command() if not any(f"{words} ".startswith(f"{name} ") for words in named)]
    assert not missing, f"the README does not say what these are for: {missing}"


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for code in (*INLINE, *LINES):
        if code.startswith("make "):
            assert re.search(rf"^{code.split()[1]}:", makefile, re.MULTILINE), code


def test_every_path_exists() -> None:
    paths = [word.rstrip(";:,") for code in (*INLINE, *LINES) for word in code.split() if word.startswith(PACKAGES)]
    paths += re.findall(r"^(\w+/) ", "\n".join(blocks("text")), re.MULTILINE)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_topic_exists_and_every_topic_is_named() -> None:
    names = {topic.name for topic in TOPICS}
    said = set(re.findall(r"\b(?:prompts-[a-z]+|[a-z]+-letters|[a-z]+-events)\b", README))
    said |= {word for line in LINES for word in re.findall(r"-t (\S+)", line)}
    assert said <= names
    assert not [name for name in names if name not in said and f"`{name}`" not in README]


def test_every_setting_exists() -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    dotted = [re.fullmatch(r"(\w+)\.(\w+)(?::.*)?", code) for code in INLINE]
    named = [match for match in dotted if match and match[1] in sections and match[2] not in {"py", "yaml", "model"}]
    assert len(named) > 10
    for match in named:
        assert match[2] in sections[match[1]].model_fields, match[0]


def test_every_metric_exists() -> None:
    from streams.engine.metrics import Metrics
    from streams.engine.sink_metrics import SinkMetrics
    from streams.prompts.topology import COUNTERS

    families = [*Metrics("promptloom", COUNTERS).registry.collect(), *SinkMetrics("promptloom").registry.collect()]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    said = {code for code in INLINE if code.startswith("promptloom_")}
    assert said
    assert said <= names


def test_every_field_of_a_prompt_and_every_type_of_event_is_listed() -> None:
    assert not [name for name in PromptSubmitted.model_fields if f"\n| `{name}` |" not in README]
    assert not [kind.value for kind in EvolutionType if kind.value not in README]


def test_the_event_that_is_shown_has_the_fields_of_an_event() -> None:
    (text,) = blocks("json")
    assert json.loads(text).keys() == EvolutionEvent.model_fields.keys()
    event = EvolutionEvent.model_validate_json(text)
    assert event.template is not None
    assert event.template.template in README, "it is the template that the first lines show"
    (headers,) = [text.strip() for text in blocks("text") if text.startswith("ce_")]
    shown = dict(header.split("=", 1) for header in headers.split(","))
    sent = cloudevents.headers(event_id="1", event_type="t", source="/s", time_ms=0, subject="s")
    assert shown.keys() == dict(sent).keys()
    assert shown["ce_type"] == cloudevents.TEMPLATE_EVOLVED


@pytest.mark.postgres
def test_the_queries_run_on_the_tables(postgres_dsn: str) -> None:
    import psycopg

    from infra import migrations

    migrations.upgrade(postgres_dsn)
    with psycopg.connect(postgres_dsn) as connection:
        for text in blocks("sql"):
            for query in text.split(";\n"):
                connection.execute(query.encode())


@pytest.mark.kafka
def test_the_python_that_sends_and_reads_runs(bootstrap: str) -> None:
    """Topics are the test's own, for others share the broker."""
    sender, reader, _ = blocks("python")
    prompts, events = (made_topic(bootstrap, topic.name) for topic in (PROMPTS, EVOLUTION_EVENTS))

    environment = {**os.environ, "BROKER": bootstrap}
    script = sender.replace(f'"{PROMPTS.name}"', f'"{prompts}"')
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=RUN_TIMEOUT_S)
    (value,) = values_of(bootstrap, prompts)
    PromptSubmitted.model_validate_json(value)

    event = EvolutionEvent.model_validate_json(blocks("json")[0])
    produced(bootstrap, events, event.model_dump_json())
    script = reader.replace(f'"{EVOLUTION_EVENTS.name}"', f'"{events}"').replace("my-service", events)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().rstrip("\n")
        finally:
            process.kill()
    assert line == f"{event.type.value} {event.tenant} {event.new_version} {event.reason}"


def test_the_app_of_another_kind_is_accepted_by_the_engine() -> None:
    """That such an app counts right on a broker is tested with `infra/examples`."""
    names: dict[str, Any] = {"__name__": "app"}
    exec(blocks("python")[2], names)  # noqa: S102  it is ours
    assert [topic.name for topic in names["engine"].changelog_topics()] == ["word-counter-counts-changelog"]


def made_topic(bootstrap: str, name: str) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    own = f"{name}-readme-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # kept until the answer is there
    admin.create_topics([NewTopic(own, 1, 1)])[own].result(RUN_TIMEOUT_S)
    return own


def produced(bootstrap: str, topic: str, value: str) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value=value)
    assert producer.flush(RUN_TIMEOUT_S) == 0


def values_of(bootstrap: str, topic: str) -> list[bytes]:
    """Return what a topic of one partition and a few records holds."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=RUN_TIMEOUT_S)
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        return [message.value() for message in consumer.consume(end, timeout=RUN_TIMEOUT_S)]
    finally:
        consumer.close()
