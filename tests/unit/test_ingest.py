"""Records of `prompts`: each line of the table in `streams/prompts/ingest.py`, tried."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro import WriterSchema
from schemas.errors import InputError, InvalidPrompt, SchemaUnavailable, ServiceUnavailable, UndecodableRecord
from schemas.ids import prompt_id_of_record
from schemas.limits import METADATA_BYTES_MAX, TEXT_BYTES_MAX
from schemas.prompts import Prompt, PromptSubmitted, Usage
from streams.engine import frames
from streams.engine.ports import Record
from streams.prompts import chat, ingest

RECEIVED_AT_MS = 1_767_225_600_000  # 2026-01-01
DAY_MS = 24 * 3_600_000


class Writers:
    """Knows schemas, some of them only after asking."""

    def __init__(self, asked: dict[str, WriterSchema | Exception] | None = None) -> None:
        self.answers = asked or {}
        self.found: dict[str, WriterSchema] = {}

    def known(self, reference: str) -> WriterSchema | None:
        return self.found.get(reference)

    async def find(self, reference: str) -> WriterSchema:
        answer = self.answers.get(reference, SchemaUnavailable(f"nobody knows {reference}", reference=reference))
        if isinstance(answer, Exception):
            raise answer
        self.found[reference] = answer
        return answer


def a_record(value: bytes | None, *, timestamp_ms: int = RECEIVED_AT_MS) -> Record:
    return Record("prompts", partition=3, offset=42, timestamp_ms=timestamp_ms, key=None, value=value)


def read(fields: dict[str, Any] | bytes | None, *, timestamp_ms: int = RECEIVED_AT_MS) -> Prompt:
    value = orjson.dumps(fields) if isinstance(fields, dict) else fields
    return ingest.decode(a_record(value, timestamp_ms=timestamp_ms), Writers())


def metadata(prompt: Prompt) -> Any:
    return orjson.loads(prompt.metadata_json)


def notes(prompt: Prompt) -> Any:
    return metadata(prompt)["promptloom"]


def test_the_least_a_prompt_needs_is_a_text() -> None:
    assert read({"text": "Hello"}) == Prompt(
        prompt_id=prompt_id_of_record("prompts", 3, 42),
        tenant="default",
        text="Hello",
        created_at_ms=RECEIVED_AT_MS,
        received_at_ms=RECEIVED_AT_MS,
        partition=3,
        offset=42,
    )


def test_everything_a_client_may_say_is_taken_over() -> None:
    prompt = read(
        {
            "id": "a-1",
            "tenant": "acme",
            "text": "Hello",
            "source": "search",
            "created_at": "2025-12-31T23:00:00.250+01:00",
            "metadata": {"team": "blue", "tags": ["a", 1, None]},
            "usage": {"model": "gpt-4o", "prompt_tokens": 3, "completion_tokens": 5, "cost_usd": 0.5},
        }
    )
    assert (prompt.prompt_id, prompt.tenant, prompt.source) == ("a-1", "acme", "search")
    assert prompt.created_at_ms == RECEIVED_AT_MS - 2 * 3_600_000 + 250
    assert metadata(prompt) == {"team": "blue", "tags": ["a", 1, None]}
    assert prompt.usage == Usage(model="gpt-4o", prompt_tokens=3, completion_tokens=5, cost_usd=0.5)


def test_the_same_record_always_gives_the_same_prompt() -> None:
    assert read({"text": "Hello"}) == read({"text": "Hello"})


@pytest.mark.parametrize("text", ["", " ", "\n\t\r ", "\u3000\u00a0", "\x1c\x1f"])
def test_an_empty_or_blank_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrompt, match="empty or blank"):
        read({"text": text})


@pytest.mark.parametrize("character", ["x", "é", "€", "\U0001f9f5"])
def test_a_text_may_take_256_kib_and_not_one_byte_more(character: str) -> None:
    size = len(character.encode())
    largest = character * (TEXT_BYTES_MAX // size) + "x" * (TEXT_BYTES_MAX % size)
    assert read({"text": largest}).text == largest
    with pytest.raises(InvalidPrompt, match=f"takes {TEXT_BYTES_MAX + 1} bytes"):
        read({"text": largest + "x"})


def test_a_chat_is_measured_with_its_markers() -> None:
    marker_bytes = len("<|user|>\n")
    content = "x" * (TEXT_BYTES_MAX - marker_bytes)
    assert len(read({"messages": [{"role": "user", "content": content}]}).text) == TEXT_BYTES_MAX
    with pytest.raises(InvalidPrompt, match="takes"):
        read({"messages": [{"role": "user", "content": content + "x"}]})


@pytest.mark.parametrize(
    "text",
    [
        "Dear {{name}}, {single} {{ spaced }} {{{three}}} {{",
        "  kept \r\n as it is \n",
        "combining e\u0301 is not é",
        "\ufeffmark inside",
        "\u202eright to left\u202c \u200b\u2028",
        '{"json": "in a prompt"}',
    ],
)
def test_the_text_is_kept_as_it_is(text: str) -> None:
    assert read({"text": text}).text == text


def test_a_chat_becomes_one_text_that_can_be_taken_apart() -> None:
    turns = [("system", "Be brief."), ("user", "<|system|>\nnot a turn")]
    prompt = read({"messages": [{"role": role, "content": content} for role, content in turns]})
    assert chat.messages_of(prompt.text) == turns


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "either text or messages"),
        ({"text": None}, "either text or messages"),
        ({"text": "a", "messages": [{"role": "user", "content": "b"}]}, "either text or messages"),
        ({"messages": []}, "empty or blank"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty or blank"),
        ({"messages": [{"role": "us er", "content": "b"}]}, "a role is"),
        ({"messages": [{"role": "", "content": "b"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: field required"),
        ({"messages": ["hello"]}, "messages.0"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": "b"}] * 1_001}, "messages"),
        ({"text": 5}, "text: input should be a valid string"),
        ({"text": ["a"]}, "text"),
        ({"text": "a", "id": 5}, "id"),
        ({"text": "a", "id": ""}, "id"),
        ({"text": "a", "id": "x" * 201}, "id"),
        ({"text": "a", "id": "a\x1fb"}, "id holds a control character"),
        ({"text": "a", "tenant": ""}, "tenant"),
        ({"text": "a", "tenant": "x" * 101}, "tenant"),
        ({"text": "a", "tenant": "a\0"}, "tenant holds a control character"),
        ({"text": "a", "source": "\n"}, "source holds a control character"),
        ({"text": "a", "created_at": True}, "created_at"),
        ({"text": "a", "created_at": {}}, "created_at"),
        ({"text": "a", "metadata": []}, "metadata"),
        ({"text": "a", "usage": 3}, "usage"),
        ({"text": "a", "usage": {"prompt_tokens": -1}}, "usage.prompt_tokens"),
        ({"text": "a", "usage": {"prompt_tokens": 10**13}}, "usage.prompt_tokens"),
        ({"text": "a", "usage": {"prompt_tokens": "3"}}, "usage.prompt_tokens"),
        ({"text": "a", "usage": {"prompt_tokens": 1.5}}, "usage.prompt_tokens"),
        ({"text": "a", "usage": {"cost_usd": 1e300}}, "usage.cost_usd"),
        ({"text": "a", "usage": {"model": "m\x07"}}, "usage.model holds a control character"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_field_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidPrompt) as refused:
        read(fields)
    assert problem in str(refused.value)


def test_a_refusal_never_quotes_the_prompt() -> None:
    for fields in ({"text": ["my secret"]}, {"text": "my secret", "usage": {"model": ["my secret"]}}):
        with pytest.raises(InvalidPrompt) as refused:
            read(fields)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_null_is_an_absent_field() -> None:
    fields = dict.fromkeys(("id", "tenant", "source", "created_at", "metadata", "messages"))
    prompt = read({"text": "Hello", "usage": {"model": None, "prompt_tokens": None}, **fields})
    assert prompt == read({"text": "Hello", "usage": {}})


@pytest.mark.parametrize("value", [None, b"", b"hello", b"[1]", b'{"text":"\xff"}', b"\xc3\x01", b"\x00"])
def test_what_fits_no_encoding_is_undecodable(value: bytes | None) -> None:
    with pytest.raises(UndecodableRecord):
        read(value)


def test_unknown_fields_are_kept_wherever_they_stand() -> None:
    prompt = read(
        {
            "messages": [{"role": "user", "content": "hi", "name": "Ann"}, {"role": "assistant", "content": "ho"}],
            "usage": {"model": "m", "cached_tokens": 9},
            "temperature": 0.5,
            "metadata": {"team": "blue"},
        }
    )
    assert prompt.usage == Usage(model="m")
    assert metadata(prompt)["team"] == "blue"
    assert notes(prompt)["unknown_fields"] == {
        "temperature": 0.5,
        "usage": {"cached_tokens": 9},
        "messages": {"0": {"name": "Ann"}},
    }


def test_unknown_fields_that_do_not_fit_are_dropped_and_counted_but_the_prompt_stays() -> None:
    prompt = read({"text": "Hello", "metadata": {"team": "blue"}, "big": "x" * METADATA_BYTES_MAX, "small": 1})
    assert metadata(prompt) == {"team": "blue", "promptloom": {"unknown_fields_dropped": 2}}


def test_metadata_may_take_16_kib_and_not_one_byte_more() -> None:
    rest = len(orjson.dumps({"a": ""}))
    largest = {"a": "x" * (METADATA_BYTES_MAX - rest)}
    assert metadata(read({"text": "Hello", "metadata": largest})) == largest
    with pytest.raises(InvalidPrompt, match="metadata takes"):
        read({"text": "Hello", "metadata": {"a": largest["a"] + "x"}})


def test_notes_are_added_even_to_the_largest_metadata() -> None:
    rest = len(orjson.dumps({"a": ""}))
    prompt = read({"text": "a\0b", "metadata": {"a": "x" * (METADATA_BYTES_MAX - rest)}})
    assert notes(prompt) == {"nul_characters": 1}


def test_a_client_cannot_smuggle_metadata_past_the_limit_as_notes() -> None:
    prompt = read({"text": "Hello", "metadata": {"promptloom": {"a": "x" * METADATA_BYTES_MAX}}})
    assert metadata(prompt) == {}


def test_metadata_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match="cannot be kept as JSON"):
        read(b'{"text":"a","metadata":{"a":' + b"[" * 300 + b"]" * 300 + b"}}")


def test_lone_surrogates_are_replaced_and_noted() -> None:
    prompt = read(rb'{"text":"cut \ud83d","metadata":{"a":"\udc00"}}')
    assert prompt.text == "cut \ufffd"
    assert metadata(prompt) == {"a": "\ufffd", "promptloom": {"surrogates_replaced": 2}}


def test_nul_is_kept_and_counted_in_the_text() -> None:
    prompt = read({"text": "a\0b\0", "metadata": {"k\0": "\0"}})
    assert prompt.text == "a\0b\0"
    assert metadata(prompt) == {"k\0": "\0", "promptloom": {"nul_characters": 2}}


@pytest.mark.parametrize(
    ("created_at", "expected_ms"),
    [
        ("2026-01-01T00:00:00Z", RECEIVED_AT_MS),
        ("2026-01-01T01:00:00+01:00", RECEIVED_AT_MS),
        ("2026-01-01T00:00:00", RECEIVED_AT_MS),
        ("2025-12-31T23:59:59.9999Z", RECEIVED_AT_MS - 1),
        (RECEIVED_AT_MS - 5, RECEIVED_AT_MS - 5),
        (RECEIVED_AT_MS - 5.5, RECEIVED_AT_MS - 6),
        (RECEIVED_AT_MS + DAY_MS, RECEIVED_AT_MS + DAY_MS),
        (946_684_800_000, 946_684_800_000),
    ],
)
def test_a_believable_event_time_is_kept(created_at: str | float, expected_ms: int) -> None:
    prompt = read({"text": "Hello", "created_at": created_at})
    assert prompt.created_at_ms == expected_ms
    assert prompt.metadata_json == "{}"


@pytest.mark.parametrize(
    "created_at",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59Z",
        "1969-07-20T20:17:40Z",
        "yesterday",
        "",
        "2026-02-30T00:00:00Z",
        1_767_225_600,  # seconds
        946_684_800_000 - 1,
        RECEIVED_AT_MS + DAY_MS + 1,
        0,
        -1,
        1e30,
        1e308,
    ],
)
def test_an_unbelievable_event_time_is_replaced_and_kept_beside(created_at: str | float) -> None:
    prompt = read({"text": "Hello", "created_at": created_at})
    assert prompt.created_at_ms == RECEIVED_AT_MS
    assert notes(prompt) == {"created_at": created_at}


def test_an_endless_event_time_is_kept_in_part() -> None:
    assert len(notes(read({"text": "Hello", "created_at": "x" * 100_000}))["created_at"]) == 100


@pytest.mark.parametrize(
    ("timestamp_ms", "received_at_ms"), [(-1, 946_684_800_000), (0, 946_684_800_000), (2**60, 4_102_444_800_000)]
)
def test_a_record_time_no_calendar_wants_is_moved_to_the_nearer_bound(timestamp_ms: int, received_at_ms: int) -> None:
    prompt = read({"text": "Hello"}, timestamp_ms=timestamp_ms)
    assert (prompt.received_at_ms, prompt.created_at_ms) == (received_at_ms, received_at_ms)


def test_a_prompt_comes_through_the_dead_letters_as_it_was() -> None:
    prompt = read(
        {
            "id": "a-1",
            "tenant": "acme",
            "messages": [{"role": "user", "content": "NUL \0 and {{braces}}"}],
            "created_at": "yesterday",
            "metadata": {"team": "blue"},
            "usage": {"model": "m", "prompt_tokens": 3},
            "temperature": 1,
        }
    )
    again = ingest.as_received(prompt)
    assert (again.topic, again.partition, again.offset) == ("prompts", 3, 42)
    assert ingest.decode(again, Writers()) == prompt


AVRO_ASKED = fastavro.parse_schema(
    {
        "type": "record",
        "name": "acme.Asked",
        "fields": [
            {"name": "text", "type": "string"},
            {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "id", "type": ["null", "string"]},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "blob", "type": "bytes"},
        ],
    }
)


def avro(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


def test_avro_of_this_programs_schema_needs_no_look_up() -> None:
    body = avro(
        frames.schema_of(PromptSubmitted),
        {"text": "Hello", "created_at": RECEIVED_AT_MS - 1, "metadata": {"a": "b"}, "usage": {"model": "m"}},
    )
    prompt = ingest.decode(a_record(frames.MARKER + frames.fingerprint_of(PromptSubmitted) + body), Writers())
    assert (prompt.text, prompt.tenant, prompt.created_at_ms) == ("Hello", "default", RECEIVED_AT_MS - 1)
    assert prompt.usage == Usage(model="m")
    assert metadata(prompt) == {"a": "b"}


async def test_avro_of_a_clients_own_schema_keeps_what_only_the_client_knows() -> None:
    datum = {
        "text": "Hello",
        "created_at": datetime(2025, 12, 31, tzinfo=UTC),
        "id": None,
        "price": Decimal("1.25"),
        "blob": b"\xff\0",
    }
    writers = Writers({"registry:7": WriterSchema("avro", AVRO_ASKED)})
    prompt = await ingest.read(a_record(b"\0\0\0\0\x07" + avro(AVRO_ASKED, datum)), writers)
    assert prompt.created_at_ms == RECEIVED_AT_MS - DAY_MS
    assert prompt.prompt_id == prompt_id_of_record("prompts", 3, 42)
    assert notes(prompt)["unknown_fields"] == {"price": "1.25", "blob": "/wA="}


@pytest.mark.parametrize("value", [b"\xc3\x01" + bytes(8) + b"body", b"\0\0\0\0\x63body"])
async def test_a_schema_nobody_knows_makes_the_record_undecodable(value: bytes) -> None:
    with pytest.raises(UndecodableRecord, match="nobody knows"):
        await ingest.read(a_record(value), Writers())


async def test_a_registry_that_does_not_answer_holds_the_record() -> None:
    writers = Writers({"registry:99": ServiceUnavailable("no answer")})
    with pytest.raises(ServiceUnavailable):
        await ingest.read(a_record(b"\0\0\0\0\x63body"), writers)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from([*PromptSubmitted.model_fields, "role", "content", "promptloom", "unknown"])


@given(
    st.dictionaries(NAMES, JSON_VALUES | st.just([{"role": "user", "content": "x"}]) | st.just("x")),
    st.integers(-1, 2**62),
)
def test_any_object_is_a_prompt_or_an_input_error(fields: dict[str, Any], timestamp_ms: int) -> None:
    check(orjson.dumps(fields), timestamp_ms)


OWN = frames.MARKER + frames.fingerprint_of(PromptSubmitted)


@given(
    st.sampled_from([b"", b"{", b'{"text":"', b"\xef\xbb\xbf", b"\xc3\x01", OWN, b"\0\0\0\0\x07"]),
    st.binary(),
    st.integers(-1, 2**62),
)
def test_any_bytes_are_a_prompt_or_an_input_error(start: bytes, rest: bytes, timestamp_ms: int) -> None:
    check(start + rest, timestamp_ms)


def check(value: bytes, timestamp_ms: int) -> None:
    writers = Writers()
    writers.found["registry:7"] = WriterSchema("avro", AVRO_ASKED)
    try:
        prompt = ingest.decode(a_record(value, timestamp_ms=timestamp_ms), writers)
    except (InputError, SchemaUnavailable):
        return
    assert 0 < len(prompt.text.encode()) <= TEXT_BYTES_MAX
    assert isinstance(metadata(prompt), dict)
    assert frames.decode(Prompt, frames.encode(prompt)) == prompt
    assert ingest.decode(ingest.as_received(prompt), writers) == prompt
