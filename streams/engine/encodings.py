"""Turn the bytes of a public record into a mapping, whichever of three encodings they are in.

The first bytes tell which; no encoding can be mistaken for another:

    {  or white space      JSON: an object, UTF-8, with or without a byte order mark (EF BB BF)
    C3 01                  Avro single-object: 8 bytes of fingerprint, then the body
    00                     Confluent framing: 4 bytes of registry id (big-endian), then Avro, or JSON
                           where the registry says that the id is a JSON schema

Rules
  * Anything else, a broken body, or bytes left over after it: UndecodableRecord.
  * JSON is read strictly: no NaN, no numbers beyond a double, no raw control characters, at most 1,024
    levels. Of a repeated key the last one counts; integers beyond 64 bits become floats.
  * An escaped lone surrogate (`\\ud83d` without its partner: JavaScript's `slice` cuts emoji in two) is not
    text in any encoding. Each becomes U+FFFD and is counted, because a cut emoji must not cost a prompt.
  * Avro is read with the writer's schema, so fields this program does not know are kept. An unknown
    schema raises SchemaUnavailable with its reference; looking it up is the caller's business.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from fastavro import schemaless_reader

from schemas.avro import WriterSchema
from schemas.errors import SchemaUnavailable, UndecodableRecord
from streams.engine import frames

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CONFLUENT_MARKER = b"\x00"
CONFLUENT_HEADER_BYTES = 5
JSON_STARTS = (b"{", b"[", b'"', b" ", b"\t", b"\n", b"\r", BYTE_ORDER_MARK)
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff", b"{\x00")

# Left to right: an escaped backslash, a surrogate pair, a lone surrogate. Taking the first two along keeps
# `\\ud83d` (a backslash and five letters) and whole pairs from looking like the third.
ESCAPES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})", re.DOTALL)
REPLACEMENT_ESCAPE = rb"\ufffd"


class KnownSchemas(Protocol):
    """What is in memory of other writers' schemas."""

    def known(self, reference: str) -> WriterSchema | None: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record's fields, and how many lone surrogates were replaced in them."""

    fields: dict[str, Any]
    surrogates_replaced: int = 0


def decode(value: bytes | None, schemas: KnownSchemas, own: Mapping[bytes, Any]) -> Decoded:
    """Return the fields of a record's value.

    `own` are this program's schemas by fingerprint: those need no look-up.
    """
    if not value:
        raise UndecodableRecord("decoding a record: it has no value", hint="a tombstone means nothing on this topic")
    if value.startswith(frames.MARKER):
        return Decoded(_single_object(value, schemas, own))
    if value.startswith(UTF16_STARTS):
        raise UndecodableRecord("decoding a record: it looks like UTF-16", hint="send JSON as UTF-8")
    if value.startswith(JSON_STARTS):
        return _json(value.removeprefix(BYTE_ORDER_MARK))
    if value.startswith(CONFLUENT_MARKER):
        return _confluent(value, schemas)
    raise UndecodableRecord(
        f"decoding a record: it starts with {value[:2].hex(' ')}, which fits no accepted encoding",
        hint="send a JSON object, Avro single-object encoding (c3 01) or Confluent framing (00)",
    )


def _json(text: bytes) -> Decoded:
    replaced = 0
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        mended, replaced = _without_lone_surrogates(text)
        if not replaced:
            raise _broken_json(error) from None
        try:
            fields = orjson.loads(mended)
        except orjson.JSONDecodeError as second_error:
            raise _broken_json(second_error) from None
    if not isinstance(fields, dict):
        raise UndecodableRecord(f"decoding a record: the JSON is not an object but {_json_name(fields)}")
    return Decoded(fields, replaced)


def _without_lone_surrogates(text: bytes) -> tuple[bytes, int]:
    replaced = 0

    def mend(match: re.Match[bytes]) -> bytes:
        nonlocal replaced
        if match["lone"] is None:
            return match[0]
        replaced += 1
        return REPLACEMENT_ESCAPE

    return ESCAPES.sub(mend, text), replaced


def _broken_json(error: orjson.JSONDecodeError) -> UndecodableRecord:
    # The parser's message names a position and never quotes the text.
    return UndecodableRecord(f"decoding a record: broken JSON: {error}", hint="one JSON object in UTF-8 per record")


def _json_name(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _single_object(value: bytes, schemas: KnownSchemas, own: Mapping[bytes, Any]) -> dict[str, Any]:
    if len(value) < frames.HEADER_BYTES:
        raise UndecodableRecord("decoding a record: the Avro single-object header is cut short")
    mark = value[len(frames.MARKER) : frames.HEADER_BYTES]
    definition = own.get(mark)
    if definition is None:
        definition = _known(f"fingerprint:{mark.hex()}", schemas).definition
    return _avro(value[frames.HEADER_BYTES :], definition)


def _confluent(value: bytes, schemas: KnownSchemas) -> Decoded:
    if len(value) < CONFLUENT_HEADER_BYTES:
        raise UndecodableRecord("decoding a record: the Confluent header is cut short")
    schema_id = int.from_bytes(value[1:CONFLUENT_HEADER_BYTES], "big")
    schema = _known(f"registry:{schema_id}", schemas)
    body = value[CONFLUENT_HEADER_BYTES:]
    return _json(body) if schema.format == "json" else Decoded(_avro(body, schema.definition))


def _known(reference: str, schemas: KnownSchemas) -> WriterSchema:
    schema = schemas.known(reference)
    if schema is None:
        raise SchemaUnavailable(
            f"decoding a record: no schema is known under {reference}",
            reference=reference,
            hint="publish it to the topic `schemas`, or set kafka.schema_registry_url",
        )
    return schema


def _avro(body: bytes, definition: Any) -> dict[str, Any]:
    reader = io.BytesIO(body)
    try:
        fields = schemaless_reader(reader, definition, None)
    except Exception as error:  # fastavro raises whatever the broken bytes run it into
        raise UndecodableRecord(f"decoding a record: the Avro body is broken ({type(error).__name__})") from error
    if reader.tell() != len(body):
        raise UndecodableRecord(f"decoding a record: {len(body) - reader.tell()} bytes follow the Avro body")
    if not isinstance(fields, dict):
        raise UndecodableRecord("decoding a record: the Avro schema is not a record")
    return fields
