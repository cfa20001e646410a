"""Frames: what is written is read, broken bytes are refused, and no batch exceeds a frame's limits."""

from __future__ import annotations

import io
from contextlib import suppress
from itertools import pairwise
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro import WriterSchema, folder
from schemas.errors import SchemaUnavailable, UndecodableRecord
from schemas.limits import FRAME_BYTES_MAX, FRAME_PROMPTS_MAX, RECORD_BYTES_MAX, TEXT_BYTES_MAX
from schemas.prompts import CanonicalizedFrame, CanonicalizedPrompt, Model, ModeratedFrame, ModeratedPrompt
from streams.engine import frames
from tests import wire


@pytest.mark.parametrize("model", wire.FRAMES, ids=lambda model: model.__name__)
def test_a_frame_is_read_as_it_was_written(model: type[Model]) -> None:
    @given(wire.FRAMES[model])
    def check(frame: Model) -> None:
        assert frames.decode(model, frames.encode(frame)) == frame

    check()


@pytest.mark.parametrize("frame", wire.EXAMPLES, ids=lambda frame: type(frame).__name__)
def test_any_avro_library_can_read_a_frame(frame: Model) -> None:
    """The oracle is fastavro alone with the plain schema; `model_dump` says what should come out."""
    data = frames.encode(frame)
    assert data[:2] == b"\xc3\x01"
    body = io.BytesIO(data[10:])
    schema = fastavro.schema.load_schema(str(folder() / f"promptloom.{type(frame).__name__}.avsc"))
    assert type(frame).model_validate(fastavro.schemaless_reader(body, schema, None)).model_dump() == frame.model_dump()
    assert not body.read()


@pytest.mark.parametrize("frame", wire.EXAMPLES, ids=lambda frame: type(frame).__name__)
def test_a_frame_cut_short_anywhere_is_refused(frame: Model) -> None:
    data = frames.encode(frame)
    for length in range(len(data)):
        with pytest.raises(UndecodableRecord):
            frames.decode(type(frame), data[:length])


@given(st.binary(max_size=200))
def test_broken_bytes_are_refused_and_raise_nothing_else(body: bytes) -> None:
    data = frames.MARKER + frames.fingerprint_of(ModeratedFrame) + body
    with suppress(UndecodableRecord):
        frames.decode(ModeratedFrame, data)


def test_a_record_that_is_no_frame_is_refused() -> None:
    for data in (b"", b"{}", b"\xc3\x01", b"\x00\x00\x00\x00\x01"):
        with pytest.raises(UndecodableRecord, match="not Avro single-object"):
            frames.decode(ModeratedFrame, data)


async def test_a_frame_without_a_value_is_refused() -> None:
    with pytest.raises(UndecodableRecord):
        await frames.read(ModeratedFrame, None, Writers({}))


def test_a_value_out_of_range_is_refused_without_being_quoted() -> None:
    frame = ModeratedFrame(
        prompts=(ModeratedPrompt(prompt=wire.a_prompt(usage=wire.USAGE), moderation=wire.MODERATION),)
    )
    usage = wire.USAGE.model_copy(update={"prompt_tokens": -7})
    broken = frame.prompts[0].model_copy(update={"prompt": wire.a_prompt(text="a secret", usage=usage)})
    data = frames.encode(frame.model_copy(update={"prompts": (broken,)}))
    with pytest.raises(UndecodableRecord) as caught:
        frames.decode(ModeratedFrame, data)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


class Writers:
    """Knows the schemas it is given."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.schemas = schemas
        self.asked: list[str] = []

    def known(self, reference: str) -> WriterSchema | None:
        raise AssertionError(f"frames keep what they learnt themselves, and asked for {reference}")

    async def find(self, reference: str) -> WriterSchema:
        self.asked.append(reference)
        if reference not in self.schemas:
            raise SchemaUnavailable("not there yet", reference=reference)
        return WriterSchema("avro", self.schemas[reference])


async def test_a_frame_of_an_unknown_schema_waits_until_the_schema_is_found() -> None:
    newer = {
        "type": "record",
        "name": "promptloom.ModeratedFrame",
        "fields": [
            {"name": "note", "type": "string"},
            {"name": "prompts", "type": {"type": "array", "items": frames.schema_of(ModeratedPrompt)}},
        ],
    }
    schema = fastavro.parse_schema(newer)
    mark = bytes.fromhex(fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {"note": "from the future", "prompts": []})
    data = frames.MARKER + mark + out.getvalue()

    with pytest.raises(SchemaUnavailable) as missing:
        frames.decode(ModeratedFrame, data)
    writers = Writers({})
    with pytest.raises(SchemaUnavailable):
        await frames.resolve(missing.value, writers)
    with pytest.raises(SchemaUnavailable):  # held, and asked again
        frames.decode(ModeratedFrame, data)
    writers.schemas[f"fingerprint:{mark.hex()}"] = newer

    assert await frames.read(ModeratedFrame, data, writers) == ModeratedFrame(prompts=())
    assert frames.decode(ModeratedFrame, data) == ModeratedFrame(prompts=())
    assert writers.asked == [f"fingerprint:{mark.hex()}"] * 2


@given(st.lists(st.integers(0, 12)), st.integers(1, 5), st.integers(1, 20))
def test_batches_keep_the_order_and_the_limits(sizes: list[int], prompts_max: int, bytes_max: int) -> None:
    cut = list(frames.batches(sizes, lambda size: size, prompts_max=prompts_max, bytes_max=bytes_max))
    assert [size for batch in cut for size in batch] == sizes
    for batch in cut:
        assert 1 <= len(batch) <= prompts_max
        assert sum(batch) <= bytes_max or len(batch) == 1
    for batch, following in pairwise(cut):
        # No batch ends early: the next item would not have fitted.
        assert len(batch) == prompts_max or sum(batch) + following[0] > bytes_max


def test_a_prompt_larger_than_a_frame_travels_alone() -> None:
    assert list(frames.batches([1, 99, 1], lambda size: size, bytes_max=10)) == [[1], [99], [1]]


def test_no_items_make_no_frame() -> None:
    assert list(frames.batches([], len)) == []


def test_full_frames_stay_near_their_limit_and_the_largest_prompt_fits_a_record() -> None:
    prompts = [wire.a_prompt(number, text="x" * 1_500, usage=wire.USAGE) for number in range(1_000)]
    for batch in frames.batches(prompts, frames.prompt_bytes):
        frame = ModeratedFrame(prompts=tuple(ModeratedPrompt(prompt=p, moderation=wire.MODERATION) for p in batch))
        assert len(batch) <= FRAME_PROMPTS_MAX
        assert len(frames.encode(frame)) <= FRAME_BYTES_MAX

    largest = wire.a_prompt(text="\u20ac" * (TEXT_BYTES_MAX // 3), usage=wire.USAGE)
    assignment = wire.ASSIGNMENT.model_copy(update={"prompt": largest})
    alone = CanonicalizedPrompt(assignment=assignment, slots={"text": largest.text})
    assert len(frames.encode(CanonicalizedFrame(prompts=(alone,)))) < RECORD_BYTES_MAX
