"""`promptloom topics schema`: what a client needs to know of a record, without a broker."""

from __future__ import annotations

import fastavro
import orjson
import pytest
from click.testing import CliRunner, Result

from schemas.prompts import PromptSubmitted
from streams.cli.topics import topics
from streams.engine import frames


def run(*arguments: str) -> Result:
    return CliRunner().invoke(topics, ["schema", *arguments])


def test_a_public_topic_shows_json_schema() -> None:
    shown = orjson.loads(run("evolution-events").stdout)
    assert {"event_id", "type", "diff"} <= shown["properties"].keys()
    assert orjson.loads(run("prompts").stdout) == PromptSubmitted.model_json_schema()


def test_the_avro_schema_shown_for_prompts_is_the_one_that_needs_no_publishing() -> None:
    schema = fastavro.parse_schema(orjson.loads(run("prompts", "--avro").stdout))
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    assert fastavro.schema.fingerprint(canonical, "CRC-64-AVRO") == frames.fingerprint_of(PromptSubmitted).hex()


def test_an_internal_topic_shows_avro() -> None:
    assert orjson.loads(run("prompts-clustered").stdout)["name"] == "promptloom.ClusteredFrame"


@pytest.mark.parametrize("arguments", [("dead-letters",), ("schemas",), ("templates", "--avro"), ("unknown",)])
def test_what_has_no_such_schema_is_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
