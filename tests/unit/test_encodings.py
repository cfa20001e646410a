"""Three encodings, told apart by their first bytes; broken ones end in one kind of error."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.avro import WriterSchema, unsafe
from schemas.errors import SchemaUnavailable, UndecodableRecord
from streams.engine import encodings

SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "acme.Asked",
        "fields": [{"name": "text", "type": "string"}, {"name": "shard", "type": "long"}],
    }
)
FIELDS = {"text": "hello", "shard": 7}
MARK = bytes.fromhex(fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO"))


def avro(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


BODY = avro(SCHEMA, FIELDS)


class Known:
    def __init__(self, **schemas: WriterSchema) -> None:
        self.schemas = {reference.replace("_", ":"): schema for reference, schema in schemas.items()}

    def known(self, reference: str) -> WriterSchema | None:
        return self.schemas.get(reference)


def decode(value: bytes | None, **schemas: WriterSchema) -> dict[str, Any]:
    return encodings.decode(value, Known(**schemas), {MARK: SCHEMA}).fields


def test_json_may_stand_behind_white_space_or_a_byte_order_mark() -> None:
    for start in (b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"):
        assert decode(start + b'{"text":"hello"}\n') == {"text": "hello"}


def test_avro_single_object_of_a_known_schema_is_read() -> None:
    assert decode(b"\xc3\x01" + MARK + BODY) == FIELDS


def test_avro_single_object_of_another_writer_is_read_with_its_schema() -> None:
    mark = bytes(range(8))
    schemas = {f"fingerprint_{mark.hex()}": WriterSchema("avro", SCHEMA)}
    assert decode(b"\xc3\x01" + mark + BODY, **schemas) == FIELDS


def test_confluent_framing_is_read_with_the_schema_of_its_id() -> None:
    assert decode(b"\x00\x00\x00\x01\x02" + BODY, registry_258=WriterSchema("avro", SCHEMA)) == FIELDS


def test_avro_that_is_no_record_is_refused() -> None:
    with pytest.raises(UndecodableRecord, match="not a record"):
        decode(b"\x00\x00\x00\x00\x05\x02a", registry_5=WriterSchema("avro", "string"))


def test_confluent_framing_of_a_json_schema_holds_json() -> None:
    framed = b"\x00\x00\x00\x00\x05" + orjson.dumps(FIELDS)
    assert decode(framed, registry_5=WriterSchema("json")) == FIELDS


def test_an_unknown_schema_is_named_so_that_it_can_be_asked_for() -> None:
    for value, reference in (
        (b"\xc3\x01" + bytes(8), "fingerprint:0000000000000000"),
        (b"\x00\x00\x00\x00\x11" + BODY, "registry:17"),
    ):
        with pytest.raises(SchemaUnavailable) as missing:
            decode(value)
        assert missing.value.reference == reference


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "it has no value"),
        (b"", "it has no value"),
        (b"hello", "starts with 68 65"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b"{\x00}\x00", "UTF-16"),
        (b"\xc3\x01abc", "cut short"),
        (b"\x00\x00\x01", "cut short"),
        (b"\xc3\x01" + MARK + BODY[:-1], "Avro body is broken"),
        (b"\xc3\x01" + MARK + b"\x04\xff\xff\x02", "Avro body is broken"),
        (b"\xc3\x01" + MARK + BODY + b"x", "1 bytes follow"),
        (b"[1]", "not an object but an array"),
        (b'"text"', "not an object but a string"),
        (b" 12", "not an object but a number"),
        (b" true", "not an object but a boolean"),
        (b" null", "not an object but null"),
        (b'{"text":"a', "broken JSON"),
        (b'{"text":"a"}{"text":"b"}', "broken JSON"),
        (b'{"text":"\xff"}', "broken JSON"),
        (b'{"text":"\xed\xa0\x80"}', "broken JSON"),  # a surrogate as raw bytes is no UTF-8
        (b'{"text":"a\nb"}', "broken JSON"),
        (b'{"a":NaN}', "broken JSON"),
        (b'{"a":1e999}', "broken JSON"),
        (b'{"a":"\\ud800","b":NaN}', "broken JSON"),
        (b'{"a":' + b"[" * 3_000 + b"]" * 3_000 + b"}", "broken JSON"),
    ],
)
def test_broken_bytes_are_refused_with_a_reason(value: bytes | None, message: str) -> None:
    with pytest.raises(UndecodableRecord, match=message):
        decode(value)


def test_of_a_repeated_key_the_last_one_counts() -> None:
    assert decode(b'{"text":"first","text":"last"}') == {"text": "last"}


def test_integers_beyond_64_bits_become_floats() -> None:
    assert decode(b'{"a":123456789012345678901234567890}') == {"a": 1.2345678901234568e29}


@pytest.mark.parametrize(
    ("escaped", "text", "replaced"),
    [
        (r"cut \ud83d", "cut \ufffd", 1),
        (r"\udc00 low", "\ufffd low", 1),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600", 1),
        (r"\ud83d\n\uD83D\u0041", "\ufffd\n\ufffdA", 2),
        (r"\\ud83d is literal, \ud83d is not", "\\ud83d is literal, \ufffd is not", 1),
        (r"\\\ud83d", "\\\ufffd", 1),
        (r"whole \ud83d\ude00", "whole \U0001f600", 0),
    ],
)
def test_lone_surrogates_are_replaced_and_counted(escaped: str, text: str, replaced: int) -> None:
    decoded = encodings.decode(f'{{"text":"{escaped}"}}'.encode(), Known(), {})
    assert decoded == encodings.Decoded({"text": text}, replaced)


@given(st.lists(st.sampled_from(["\\", "\ud83d", "\ude00", "u", "d83d", "x", '"'])).map("".join))
@example("\\\ud83d\\ud83d")
def test_replacing_surrogates_agrees_with_the_standard_library(text: str) -> None:
    value = json.dumps({"text": text}).encode()
    # The standard library joins pairs and lets lone surrogates through.
    expected = "".join(
        "\ufffd" if "\ud800" <= character <= "\udfff" else character for character in json.loads(value)["text"]
    )
    decoded = encodings.decode(value, Known(), {})
    assert decoded.fields["text"] == expected
    assert decoded.surrogates_replaced == expected.count("\ufffd")


SELF = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
MUTUAL = {
    "type": "record",
    "name": "A",
    "fields": [
        {
            "name": "b",
            "type": {
                "type": "record",
                "name": "B",
                "fields": [{"name": "as", "type": {"type": "array", "items": "A"}}],
            },
        }
    ],
}
EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (SELF, "contains itself"),
        (MUTUAL, "contains itself"),
        ({"type": "array", "items": "null"}, "take no bytes"),
        ({"type": "array", "items": EMPTY}, "take no bytes"),
        ({"type": "map", "values": {"type": "array", "items": {"type": "null"}}}, "take no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "take no bytes"),
        (7, "not an Avro schema"),
    ],
)
def test_a_schema_that_could_bring_the_reader_down_is_found(schema: Any, fault: str) -> None:
    assert fault in unsafe(schema)


def test_a_schema_that_nests_without_end_is_found() -> None:
    nested: Any = "string"
    for _ in range(500):
        nested = {"type": "array", "items": nested}
    assert "nests deeper" in unsafe(nested)


def test_ordinary_schemas_are_safe() -> None:
    assert not unsafe(SCHEMA)
    assert not unsafe(["null", "string"])
    assert not unsafe("string")
    twice = {
        "type": "record",
        "name": "Pair",
        "fields": [
            {"name": "one", "type": {"type": "record", "name": "Part", "fields": [{"name": "x", "type": "int"}]}},
            {"name": "two", "type": "Part"},
            {"name": "all", "type": {"type": "array", "items": "Part"}},
            {"name": "by_name", "type": {"type": "map", "values": "null"}},
        ],
    }
    assert not unsafe(twice)
