"""Bad input through the whole pipeline: each ends in its defined place, nothing is lost, the worker lives on.

The places are those of the table in `streams/prompts/ingest.py`. All are produced as raw bytes into one
pipeline, good prompts between them, before any test looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Message

from schemas.limits import TEXT_BYTES_MAX
from schemas.topics import DEAD_LETTERS, PROMPTS, PROMPTS_REJECTED
from tests.kafka.pipeline import Pipeline, running

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]

ERRORS = "__promptloom.errors."
TENANT = "odd"
REJECTING = {"strict": {"all": 0.0}}  # a tenant whose every prompt is rejected, whatever the moderator thinks
BEGAN = datetime.now(UTC)
SECRET = "the-purple-walrus-signs-at-midnight"  # a text to look for where no text may be


@dataclass(frozen=True)
class Refused:
    """A record that becomes a dead letter; `message` is part of why."""

    value: bytes | None
    exception: str
    message: str


REFUSED = {
    "empty": Refused(b'{"text":""}', "InvalidPrompt", "empty or blank"),
    "whitespace": Refused(' {"text":" \\n\\t\u3000"}'.encode(), "InvalidPrompt", "empty or blank"),
    "too long": Refused(b'{"text":"' + b"x" * (TEXT_BYTES_MAX + 1) + b'"}', "InvalidPrompt", "the limit is"),
    "invalid UTF-8": Refused(b'{"text":"caf\xe9"}', "UndecodableRecord", "broken JSON"),
    "a JSON array": Refused(b'["text"]', "UndecodableRecord", "not an object"),
    "a JSON string": Refused(b'"text"', "UndecodableRecord", "not an object"),
    "plain text": Refused(b"hello", "UndecodableRecord", "no accepted encoding"),
    "a number as text": Refused(b'{"text":42}', "InvalidPrompt", "text: "),
    "a negative count": Refused(b'{"text":"a","usage":{"prompt_tokens":-1}}', "InvalidPrompt", "usage.prompt_tokens"),
    "unknown fingerprint": Refused(b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08body", "UndecodableRecord", "fingerprint"),
    "unknown registry id": Refused(b"\x00\x00\x00\x00\x63body", "UndecodableRecord", "schema id 99"),
    "NUL in the id": Refused(b'{"id":"a\\u0000b","text":"x"}', "InvalidPrompt", "control character"),
    "null": Refused(None, "UndecodableRecord", "no value"),
    "no bytes": Refused(b"", "UndecodableRecord", "no value"),
}

# The fields sent beside id and tenant, and the text that arrives.
KEPT: dict[str, tuple[dict[str, Any], str]] = {
    "good-1": ({"text": "A good prompt."}, "A good prompt."),
    "unknown-fields": ({"text": "Later.", "colour": "blue"}, "Later."),
    "longest": ({"text": "y" * TEXT_BYTES_MAX}, "y" * TEXT_BYTES_MAX),
    "nul": ({"text": "be\0tween"}, "be\u2400tween"),
    "surrogate": ({"text": "cut \ud83d emoji"}, "cut \ufffd emoji"),
    "braces": ({"text": "Dear {{name}}, {{{x}}} {{"}, "Dear {{name}}, {{{x}}} {{"),
    "year-1": ({"text": "A prompt of yesterday.", "created_at": "0001-01-01T00:00:00Z"}, "A prompt of yesterday."),
    "year-9999": ({"text": "A prompt of tomorrow.", "created_at": "9999-12-31T23:59:59Z"}, "A prompt of tomorrow."),
    "huge-time": ({"text": "Yet another good prompt.", "created_at": 1e15}, "Yet another good prompt."),
    "good-2": ({"text": "Another good prompt."}, "Another good prompt."),
}
NOTES: dict[str, Any] = {
    "unknown-fields": {"unknown_fields": {"colour": "blue"}},
    "nul": {"nul_characters": 1},
    "surrogate": {"surrogates_replaced": 1},
    "year-1": {"created_at": "0001-01-01T00:00:00Z"},
    "year-9999": {"created_at": "9999-12-31T23:59:59Z"},
    "huge-time": {"created_at": 1e15},
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Return a pipeline that has been through all of it."""
    folder = tmp_path_factory.mktemp("bad-input")
    with running(
        folder,
        PROMPTLOOM_KAFKA__SCHEMA_REGISTRY_URL=folder.as_uri(),
        PROMPTLOOM_MODERATION__TENANTS=json.dumps(REJECTING),
        PROMPTLOOM_LOGGING__LEVEL="DEBUG",
    ) as started:
        send_everything(started)
        started.settle()
        yield started


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_prompt_becomes_a_dead_letter_with_its_bytes_and_the_reason(pipeline: Pipeline, name: str) -> None:
    refused = REFUSED[name]
    letter = letters(pipeline)[name]
    headers = headers_of(letter)
    assert letter.value() == refused.value
    assert letter.key() == b"key of " + name.encode()
    assert headers["case"] == name.encode()
    assert headers[ERRORS + "exception"] == refused.exception.encode()
    assert refused.message.encode() in headers[ERRORS + "message"]
    assert headers[ERRORS + "stage"] == b"moderation"
    assert headers[ERRORS + "topic"] == PROMPTS.name.encode()
    assert {headers[ERRORS + "partition"], headers[ERRORS + "offset"]} <= {str(n).encode() for n in range(100)}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_odd_but_a_prompt_becomes_a_row(pipeline: Pipeline, name: str) -> None:
    ((text, status, metadata, believable),) = pipeline.query(
        "SELECT text, moderation_status, metadata, abs(extract(epoch FROM received_at - created_at)) < 1 FROM prompts"
        " WHERE prompt_id = %s AND tenant = %s",
        name,
        TENANT,
    )
    assert (text, status, believable) == (KEPT[name][1], "allowed", True)
    assert metadata.get("promptloom") == NOTES.get(name)
    links = "SELECT count(*) FROM cluster_assignments WHERE prompt_id = %s AND tenant = %s AND current"
    assert pipeline.query(links, name, TENANT) == [(1,)]


def test_an_id_sent_again_with_the_same_text_is_counted_as_a_duplicate(pipeline: Pipeline) -> None:
    assert pipeline.query("SELECT prompt_id, tenant, outcome FROM prompt_repeats") == [("good-1", TENANT, "duplicate")]


def test_an_id_sent_again_with_another_text_becomes_a_dead_letter_that_can_be_sent_again(pipeline: Pipeline) -> None:
    (letter,) = (found for found in pipeline.seen(DEAD_LETTERS.name) if exception_of(found) == "ConflictingDuplicate")
    sent = json.loads(letter.value() or b"")
    assert (sent["id"], sent["tenant"], sent["text"]) == ("good-1", TENANT, "Not what it said before.")
    headers = headers_of(letter)
    assert (headers[ERRORS + "stage"], headers[ERRORS + "topic"]) == (b"clustering", PROMPTS.name.encode())


def test_a_record_is_timed_by_the_broker_whatever_its_producer_says(pipeline: Pipeline) -> None:
    found = pipeline.query(
        "SELECT received_at >= %s, created_at = received_at FROM prompts WHERE tenant = 'old'", BEGAN
    )
    assert found == [(True, True)]


def test_a_rejected_prompt_leaves_no_text_anywhere(pipeline: Pipeline) -> None:
    row = pipeline.query(
        "SELECT text, moderation_status, text_chars, text_sha256 IS NOT NULL, prompts::text FROM prompts"
        " WHERE tenant = 'strict'"
    )
    assert [fields[:4] for fields in row] == [(None, "rejected", len(SECRET), True)]
    assert SECRET not in row[0][4]
    (rejection,) = pipeline.seen(PROMPTS_REJECTED.name)
    assert json.loads(rejection.value() or b"")["prompt_id"] == "refused"
    assert SECRET.encode() not in (rejection.value() or b"") + repr(rejection.headers()).encode()
    assert SECRET not in pipeline.logs()


def test_nothing_is_lost_and_the_worker_lives(pipeline: Pipeline) -> None:
    pipeline.local.check()
    stats = pipeline.stats()
    found = pipeline.seen(DEAD_LETTERS.name)
    assert (stats.rejected, stats.duplicate, len(found)) == (1, 1, len(REFUSED) + 1)
    assert stats.clustered + stats.unclustered == len(KEPT) + 1
    assert stats.prompts + len(found) == pipeline.produced
    pipeline.send({"id": "afterwards", "tenant": TENANT, "text": "A last good prompt."})
    pipeline.settle()
    assert pipeline.query("SELECT text FROM prompts WHERE prompt_id = 'afterwards'") == [("A last good prompt.",)]


def send_everything(pipeline: Pipeline) -> None:
    """Send what is refused and what is kept in turn, so that bad records share units with good ones."""
    refused = list(REFUSED.items())
    for number, (name, (fields, _)) in enumerate(KEPT.items()):
        pipeline.send({"id": name, "tenant": TENANT, **fields})
        for name_refused, case in refused[2 * number : 2 * number + 2]:
            pipeline.send(case.value, key=b"key of " + name_refused.encode(), headers=[("case", name_refused.encode())])
    pipeline.send({"id": "good-1", "tenant": TENANT, "text": "A good prompt."})
    pipeline.send({"id": "good-1", "tenant": TENANT, "text": "Not what it said before."})
    pipeline.send({"id": "old-record", "tenant": "old", "text": "From another time."}, timestamp_ms=1)
    pipeline.send({"id": "refused", "tenant": "strict", "text": SECRET})


def letters(pipeline: Pipeline) -> dict[str, Message]:
    """Return the dead letters of the cases by name."""
    found = {headers_of(letter).get("case", b"").decode(): letter for letter in pipeline.seen(DEAD_LETTERS.name)}
    return {name: letter for name, letter in found.items() if name}


def exception_of(letter: Message) -> str:
    return headers_of(letter)[ERRORS + "exception"].decode()


def headers_of(letter: Message) -> dict[str, bytes]:
    found: Any = letter.headers() or []
    return dict(found)
