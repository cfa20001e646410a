"""Turn a record of `prompts` into a Prompt, or say what is wrong with it.

What becomes of odd input (each line has a test in `tests/unit/test_ingest.py`):

    not JSON object, Avro or Confluent; broken UTF-8; null value   UndecodableRecord
    schema fingerprint or registry id nobody knows                 UndecodableRecord, after asking
    wrong type, negative token count, no text, text and messages   InvalidPrompt
    empty or blank text; a chat without any content                InvalidPrompt
    text over 256 KiB of UTF-8 (chat markers included)             InvalidPrompt; never cut
    metadata over 16 KiB, or anything kept nested past 250 levels  InvalidPrompt
    control characters in id, tenant, source or model              InvalidPrompt: they become keys and headers
    null in a field                                                as if the field were absent
    unknown fields, also inside usage and messages                 kept in metadata; dropped, and counted, if too large
    lone surrogates                                                U+FFFD each, and counted
    NUL                                                            kept, and counted in the text
    {{braces}}, byte order marks, any other character              kept as they are
    created_at unreadable, before 2000, a day past the record      the record's time; the original is kept
    created_at without an offset                                   taken as UTC
    a record time outside 2000..2100                               the nearer bound

What is kept or counted stands in the metadata under the reserved key `promptloom`. The same record always
gives the same prompt: its id is the client's, or derives from topic, partition and offset.

NUL has no place in Postgres: the sink writes U+2400 (␀) for it (`connectors/postgres/storable.py`), which the
count makes visible; Kafka and every decision keep the original.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from schemas import limits
from schemas.errors import InputError, InvalidPrompt, SchemaUnavailable, UndecodableRecord
from schemas.ids import prompt_id_of_record
from schemas.prompts import ChatMessage, Prompt, PromptSubmitted, Usage
from schemas.topics import PROMPTS
from streams.engine import encodings, frames
from streams.engine.ports import Record, Unit, WriterSchemas
from streams.prompts import chat

NOTES_KEY = "promptloom"
# What a prompt counts for that ends in the dead letters, whichever stage refuses it.
DEAD_LETTERED = (("prompts", {"outcome": "dead_lettered"}),)
PROBLEMS_SHOWN_MAX = 3
CREATED_AT_CHARS_KEPT_MAX = 100  # of an unreadable created_at
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A client that writes Avro with this schema needs to publish nothing.
OWN_SCHEMAS = {frames.fingerprint_of(PromptSubmitted): frames.schema_of(PromptSubmitted)}
KNOWN_FIELDS = frozenset(PromptSubmitted.model_fields)


async def read(record: Record, schemas: WriterSchemas) -> Prompt:
    """Return the prompt in a record, asking for its schema where that is not known yet.

    A schema nobody knows makes the record undecodable: its writer publishes a schema before using it, so one
    that is absent when the record has arrived is not on its way. ServiceUnavailable passes through.
    """
    try:
        return decode(record, schemas)
    except SchemaUnavailable as missing:
        try:
            await schemas.find(missing.reference)
        except SchemaUnavailable as unknown:
            raise UndecodableRecord(str(unknown), hint=unknown.hint) from unknown
    return decode(record, schemas)


def decode(record: Record, schemas: encodings.KnownSchemas) -> Prompt:
    """Return the prompt in a record, from what is in memory of schemas."""
    decoded = encodings.decode(record.value, schemas, OWN_SCHEMAS)
    known, unknown = _split(decoded.fields)
    submitted = _validated(known)
    text = _text(submitted)
    received_at_ms = min(max(record.timestamp_ms, limits.CREATED_AT_MS_MIN), limits.RECEIVED_AT_MS_MAX)
    created_at_ms = _created_at_ms(submitted.created_at, received_at_ms)

    notes: dict[str, Any] = {}
    if created_at_ms is None:
        original = submitted.created_at
        notes["created_at"] = original[:CREATED_AT_CHARS_KEPT_MAX] if isinstance(original, str) else original
    if decoded.surrogates_replaced:
        notes["surrogates_replaced"] = decoded.surrogates_replaced
    if nul_characters := text.count("\0"):
        notes["nul_characters"] = nul_characters

    return Prompt(
        prompt_id=submitted.id or prompt_id_of_record(record.topic, record.partition, record.offset),
        tenant=submitted.tenant,
        text=text,
        source=submitted.source,
        created_at_ms=received_at_ms if created_at_ms is None else created_at_ms,
        received_at_ms=received_at_ms,
        partition=record.partition,
        offset=record.offset,
        metadata_json=_metadata_json(submitted.metadata, notes, unknown),
        usage=submitted.usage,
    )


def as_received(prompt: Prompt) -> Record:
    """Return a prompt as it would stand in `prompts`.

    That is what goes to `dead-letters` of a prompt that failed behind moderation, so that replaying
    the dead letter puts it back at the start.
    """
    return Record(PROMPTS.name, prompt.partition, prompt.offset, prompt.received_at_ms, None, _submission(prompt))


def refuse(unit: Unit, record: Record, error: InputError, *, stage: str) -> None:
    """Dead-letter the record of a single prompt, and count the prompt."""
    unit.dead_letter(record, error, stage=stage)
    for name, labels in DEAD_LETTERED:
        unit.count(name, 1, **labels)


def _submission(prompt: Prompt) -> bytes:
    fields: dict[str, Any] = {
        "id": prompt.prompt_id,
        "tenant": prompt.tenant,
        "text": prompt.text,
        "source": prompt.source,
        "created_at": prompt.created_at_ms,
        "metadata": orjson.loads(prompt.metadata_json),
    }
    if prompt.usage is not None:
        fields["usage"] = prompt.usage.model_dump(exclude_none=True)
    return orjson.dumps(fields)


def _split(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the fields this program knows from the others, inside usage and messages too; leave nulls out."""
    known = {name: value for name, value in fields.items() if value is not None and name in KNOWN_FIELDS}
    unknown = {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}
    if isinstance(usage := known.get("usage"), dict):
        known["usage"], rest = _split_by(usage, Usage.model_fields)
        if rest:
            unknown["usage"] = rest
    if isinstance(moment := known.get("created_at"), datetime):  # a timestamp of Avro
        known["created_at"] = moment.isoformat()
    if isinstance(messages := known.get("messages"), list):
        parted = [
            _split_by(turn, ChatMessage.model_fields) if isinstance(turn, dict) else (turn, {}) for turn in messages
        ]
        known["messages"] = tuple(turn for turn, _ in parted)
        if rest := {str(number): rest for number, (_, rest) in enumerate(parted) if rest}:
            unknown["messages"] = rest
    return known, unknown


def _split_by(fields: dict[str, Any], known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {name: value for name, value in fields.items() if name in known and value is not None},
        {name: value for name, value in fields.items() if name not in known},
    )


def _validated(known: dict[str, Any]) -> PromptSubmitted:
    try:
        submitted = PromptSubmitted.model_validate(known, strict=True)
    except ValidationError as error:
        # The messages name fields and types; the input is left out, for it may be a prompt.
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].lower()}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        more = f" and {len(problems) - PROBLEMS_SHOWN_MAX} more" if len(problems) > PROBLEMS_SHOWN_MAX else ""
        raise InvalidPrompt(f"reading a prompt: {'; '.join(problems[:PROBLEMS_SHOWN_MAX])}{more}") from None
    names = {"id": submitted.id, "tenant": submitted.tenant, "source": submitted.source}
    if submitted.usage:
        names["usage.model"] = submitted.usage.model
    for field, name in names.items():
        if name and not name.isprintable() and any(unicodedata.category(character) == "Cc" for character in name):
            raise InvalidPrompt(f"reading a prompt: {field} holds a control character")
    return submitted


def _text(submitted: PromptSubmitted) -> str:
    """Return the canonical text."""
    if (submitted.text is None) == (submitted.messages is None):
        raise InvalidPrompt("reading a prompt: give either text or messages", hint='{"text": "..."} is enough')
    if submitted.text is not None:
        text = submitted.text
        blank = not text.strip()
    else:
        messages = submitted.messages or ()
        blank = not any(message.content.strip() for message in messages)
        try:
            text = chat.flatten((message.role, message.content) for message in messages)
        except ValueError as error:
            raise InvalidPrompt(f"reading a prompt: messages: {error}") from None
    if blank:
        raise InvalidPrompt("reading a prompt: the text is empty or blank")
    # A character takes one to four bytes, so most texts need not be encoded to be measured.
    if len(text) * 4 > limits.TEXT_BYTES_MAX and (size := len(text.encode())) > limits.TEXT_BYTES_MAX:
        raise InvalidPrompt(
            f"reading a prompt: the text takes {size} bytes of UTF-8, the limit is {limits.TEXT_BYTES_MAX}",
            hint="a cut prompt would be another prompt, so it is refused whole",
        )
    return text


def _created_at_ms(created_at: str | int | float | None, received_at_ms: int) -> int | None:
    """Return the event time in milliseconds, or None for one that cannot be believed."""
    if created_at is None:
        return received_at_ms
    if isinstance(created_at, str):
        try:
            moment = datetime.fromisoformat(created_at)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        time_ms: int | float = (moment - EPOCH) // timedelta(milliseconds=1)
    else:
        time_ms = created_at
    believable = limits.CREATED_AT_MS_MIN <= time_ms <= received_at_ms + limits.CREATED_AT_AHEAD_MS_MAX
    return int(time_ms) if believable else None  # NaN compares false on both sides


def _metadata_json(metadata: dict[str, Any], notes: dict[str, Any], unknown: dict[str, Any]) -> str:
    """Return the metadata as JSON, with this program's notes under their reserved key."""
    if not (metadata or notes or unknown):
        return "{}"
    earlier = metadata.get(NOTES_KEY)  # a prompt that comes out of `dead-letters` brings its notes along
    kept = {**(earlier if isinstance(earlier, dict) else {}), **notes}
    if unknown:
        kept["unknown_fields"] = unknown
    whole = _json({**metadata, NOTES_KEY: kept} if kept else metadata)
    if len(whole) <= limits.METADATA_BYTES_MAX:
        return whole.decode()
    bare = {name: value for name, value in metadata.items() if name != NOTES_KEY}
    if (size := len(_json(bare))) > limits.METADATA_BYTES_MAX:
        raise InvalidPrompt(
            f"reading a prompt: the metadata takes {size} bytes as JSON, the limit is {limits.METADATA_BYTES_MAX}"
        )
    if unknown:
        notes = {**notes, "unknown_fields_dropped": len(unknown)}
    return _json({**bare, NOTES_KEY: notes} if notes else bare).decode()


def _json(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError as error:
        raise InvalidPrompt(f"reading a prompt: the metadata cannot be kept as JSON: {error}") from None


def _plain(value: object) -> str:
    """Say in JSON what only Avro knows."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
