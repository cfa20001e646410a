"""Write a frame as Avro, read it back, and say where a frame ends.

A frame is one internal record that carries many prompts. On the wire it is Avro's
single-object encoding: the marker C3 01, the 8-byte Rabin fingerprint of the schema it was
written with, and the body.

Rules
  * The schema of a model is the file of its name in `schemas/avro`; a test keeps the two in step.
  * A frame written with this program's own schema is read directly. Any other fingerprint needs the
    writer's schema, made known by `learn`; until then `decode` raises SchemaUnavailable and the
    caller holds the partition. Schemas are found by fingerprint, so a schema once learnt never changes.
  * Models are validated when they are read, not when they are written: a writer holds models already.

Intuition: a lorry with a packing list. The list names its own form, so that a driver
with next year's form can still unload this year's lorry.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form
from pydantic import BaseModel, ValidationError

from schemas.avro import NAMESPACE, folder
from schemas.errors import SchemaUnavailable, UndecodableRecord
from schemas.limits import FRAME_BYTES_MAX, FRAME_PROMPTS_MAX
from schemas.prompts import Prompt
from streams.engine.ports import WriterSchemas

MARKER = b"\xc3\x01"
FINGERPRINT_BYTES = 8
HEADER_BYTES = len(MARKER) + FINGERPRINT_BYTES
ENVELOPE_BYTES = 400  # ids, times, usage and eight scores of a prompt; measured 180..400

Schema = dict[str, Any]
Frame = TypeVar("Frame", bound=BaseModel)
Item = TypeVar("Item")

_learnt: dict[bytes, Schema] = {}  # writers' schemas by fingerprint; content-addressed, so sharing them is harmless


def encode(frame: BaseModel) -> bytes:
    """Return the frame as Avro single-object bytes, under the schema of its model."""
    model = type(frame)
    out = io.BytesIO()
    out.write(MARKER + fingerprint_of(model))
    schemaless_writer(out, schema_of(model), _datum_maker(model)(frame))
    return out.getvalue()


def decode(model: type[Frame], data: bytes) -> Frame:
    """Return the frame in `data`, written under this program's schema of `model` or any learnt one."""
    if len(data) < HEADER_BYTES or data[: len(MARKER)] != MARKER:
        raise UndecodableRecord(f"reading a {model.__name__}: the record is not Avro single-object encoded")
    written_with = data[len(MARKER) : HEADER_BYTES]
    own = schema_of(model)
    body = io.BytesIO(data)
    body.seek(HEADER_BYTES)
    try:
        if written_with == fingerprint_of(model):
            datum = schemaless_reader(body, own, None)
        else:
            datum = schemaless_reader(body, _writer_schema(written_with), own)
        return model.model_validate(datum)
    except SchemaUnavailable:
        raise
    except ValidationError as error:  # it quotes its input, which may be a prompt, so it is not chained
        raise UndecodableRecord(f"reading a {model.__name__}: {error.error_count()} fields are invalid") from None
    except Exception as error:  # fastavro raises whatever the broken bytes run it into
        raise UndecodableRecord(f"reading a {model.__name__}: the body is broken ({type(error).__name__})") from error


def learn(schema: Schema) -> bytes:
    """Make a writer's schema known to `decode`; return its fingerprint."""
    mark = _fingerprint(schema)
    if mark not in _learnt:
        _learnt[mark] = cast("Schema", parse_schema(schema))
    return mark


async def read(model: type[Frame], data: bytes | None, schemas: WriterSchemas) -> Frame:
    """Return the frame in a record's value, asking for its writer's schema where that is not known yet."""
    try:
        return decode(model, data or b"")
    except SchemaUnavailable as missing:
        await resolve(missing, schemas)
    return decode(model, data or b"")


async def resolve(missing: SchemaUnavailable, schemas: WriterSchemas) -> None:
    """Look up the schema a `decode` missed and learn it.

    While nobody knows it, SchemaUnavailable goes on to the caller, who holds the partition: an internal
    frame is never given up.
    """
    learn((await schemas.find(missing.reference)).definition)


def batches(
    items: Iterable[Item],
    size_of: Callable[[Item], int],
    *,
    prompts_max: int = FRAME_PROMPTS_MAX,
    bytes_max: int = FRAME_BYTES_MAX,
) -> Iterator[list[Item]]:
    """Cut items, in order, into the contents of frames; `size_of` gives the bytes an item will take.

    A batch ends at `prompts_max` items, or before the item that would take it past `bytes_max`.
    An item larger than that travels alone.
    """
    batch: list[Item] = []
    batch_bytes = 0
    for item in items:
        size = size_of(item)
        if batch and (len(batch) == prompts_max or batch_bytes + size > bytes_max):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += size
    if batch:
        yield batch


def prompt_bytes(prompt: Prompt) -> int:
    """Return about how many bytes a prompt takes in a frame with its verdict: for `batches`, whose limit is soft."""
    return len(prompt.text.encode()) + len(prompt.metadata_json.encode()) + ENVELOPE_BYTES


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """Return the Avro schema of a model, parsed, with every record it refers to inside."""
    return cast("Schema", load_schema(str(folder() / f"{NAMESPACE}.{model.__name__}.avsc")))


def definition_of(model: type[BaseModel]) -> Schema:
    """Return the Avro schema of a model as JSON would hold it: what is published and shown."""
    return cast("Schema", _unmarked(schema_of(model)))


@cache
def fingerprint_of(model: type[BaseModel]) -> bytes:
    """Return the 8-byte fingerprint (CRC-64-AVRO, little-endian) of a model's schema."""
    return _fingerprint(schema_of(model))


def _fingerprint(schema: Schema) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _unmarked(part: Any) -> Any:
    """Return a schema without the marks fastavro leaves in a parsed one."""
    if isinstance(part, dict):
        return {name: _unmarked(value) for name, value in part.items() if not name.startswith("__")}
    return [_unmarked(inner) for inner in part] if isinstance(part, list) else part


def _writer_schema(mark: bytes) -> Schema:
    try:
        return _learnt[mark]
    except KeyError:
        raise SchemaUnavailable(
            f"reading a frame: no schema is known under the fingerprint {mark.hex()}",
            reference=f"fingerprint:{mark.hex()}",
            hint="its writer publishes it to the topic `schemas` before its first frame; is that topic intact?",
        ) from None


@cache
def _datum_maker(model: type[BaseModel]) -> Callable[[Any], dict[str, Any]]:
    """Return what turns a model into the dict fastavro writes.

    The attributes of a model without models inside are such a dict already and are used as they are,
    which makes this four times as fast as `model_dump`.
    """
    nested = {name: maker for name, field in model.model_fields.items() if (maker := _value_maker(field.annotation))}
    if not nested:
        return lambda value: value.__dict__

    def datum(value: BaseModel) -> dict[str, Any]:
        fields = dict(value.__dict__)
        for name, maker in nested.items():
            fields[name] = maker(fields[name])
        return fields

    return datum


def _value_maker(annotation: Any) -> Callable[[Any], Any] | None:
    """Return what converts a field's value, or None where fastavro takes the value as it is."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _datum_maker(annotation)
    if get_origin(annotation) is tuple:
        item = _value_maker(get_args(annotation)[0])
        return None if item is None else lambda values: [item(value) for value in values]
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not NoneType)
        some = _value_maker(inner)
        # Naming the branch of a union spares fastavro trying each branch on the whole value.
        name = f"{NAMESPACE}.{getattr(inner, '__name__', '')}"
        return None if some is None else lambda value: None if value is None else (name, some(value))
    return None
