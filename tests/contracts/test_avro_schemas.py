"""Avro schemas agree with their models, and readers and writers of different ages understand each other."""

from __future__ import annotations

import io
from copy import deepcopy
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import fastavro
import orjson
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from schemas import prompts
from schemas.avro import folder, unsafe
from schemas.errors import UndecodableRecord
from schemas.prompts import ChatMessage, ModeratedFrame, PromptSubmitted
from schemas.topics import DEAD_LETTERS, DEAD_LETTERS_REPLAYED, SCHEMAS, TOPICS
from streams.engine import frames
from tests.contracts import golden
from tests.wire import EXAMPLES

SCHEMA_FILES = sorted(folder().glob("*.avsc"))
INTEGERS = ("int", "long")
PRIMITIVES = {str: "string", bytes: "bytes", bool: "boolean", float: "double"}

# What Avro says otherwise than the model, because a client's JSON may say more than Avro can.
SAID_OTHERWISE = {
    ("PromptSubmitted", "created_at"): ["null", "long", "string"],
    ("PromptSubmitted", "metadata"): {"type": "map", "values": "string"},
}


def avro_types(annotation: Any) -> list[Any]:
    """Return the Avro types that may stand for a field's annotation."""
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not NoneType)
        return [["null", kind] for kind in avro_types(inner)]
    if get_origin(annotation) is tuple:
        return [{"type": "array", "items": kind} for kind in avro_types(get_args(annotation)[0])]
    if get_origin(annotation) is dict:
        return [{"type": "map", "values": kind} for kind in avro_types(get_args(annotation)[1])]
    if annotation is int:
        return list(INTEGERS)
    if annotation in PRIMITIVES:
        return [PRIMITIVES[annotation]]
    return ["string"] if issubclass(annotation, StrEnum) else [f"promptloom.{annotation.__name__}"]


def models_of(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models_of(field.annotation) for field in annotation.model_fields.values()))
    return set().union(*(models_of(part) for part in get_args(annotation)))


def test_every_model_of_a_frame_has_a_schema_file_and_no_file_is_left_over() -> None:
    models = set().union(*(models_of(type(frame)) for frame in EXAMPLES), models_of(PromptSubmitted))
    assert {path.name for path in SCHEMA_FILES} == {f"promptloom.{model.__name__}.avsc" for model in models}
    assert ChatMessage in models


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=lambda path: path.stem)
def test_a_schema_says_what_its_model_says(path: Path) -> None:
    schema = orjson.loads(path.read_bytes())
    model: type[BaseModel] = getattr(prompts, path.stem.removeprefix("promptloom."))
    assert schema["name"] == path.stem
    assert schema["doc"]
    assert [field["name"] for field in schema["fields"]] == list(model.model_fields)
    for field in schema["fields"]:
        of_model = model.model_fields[field["name"]]
        expected = SAID_OTHERWISE.get((model.__name__, field["name"]))
        assert field["type"] in ([expected] if expected else avro_types(of_model.annotation)), field["name"]
        assert ("default" in field) == (not of_model.is_required()), field["name"]
        if of_model.default is not PydanticUndefined:
            default = list(of_model.default) if isinstance(of_model.default, tuple) else of_model.default
            assert field["default"] == default, field["name"]


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=lambda path: path.stem)
def test_this_programs_schemas_are_safe_to_read_with(path: Path) -> None:
    assert not unsafe(fastavro.schema.load_schema(str(path)))


@pytest.mark.parametrize("frame", EXAMPLES, ids=lambda frame: type(frame).__name__)
def test_the_schema_in_use_is_among_the_golden_ones(frame: BaseModel) -> None:
    name = type(frame).__name__
    kept = [orjson.loads((version / f"{name}.schema.json").read_bytes()) for version in golden.versions()]
    current = frames.definition_of(type(frame))
    assert current in kept, "keep what this version writes: python -m tests.contracts.golden v<number>"


def test_every_topic_names_the_model_of_its_records() -> None:
    # As received; an Avro schema; a mark of which only the key is ever read.
    without = (DEAD_LETTERS, SCHEMAS, DEAD_LETTERS_REPLAYED)
    for topic in TOPICS:
        if topic in without:
            assert topic.model is None
            continue
        assert topic.model is not None
        assert topic.value.startswith(topic.model.__name__)
        if not topic.public:
            assert frames.definition_of(topic.model)["name"] == f"promptloom.{topic.model.__name__}"


GOLDEN_FRAMES = [path for version in golden.versions() for path in sorted(version.glob("*.avro"))]


def holds(found: Any, kept: Any) -> bool:
    """Say whether `found` has everything of `kept`; fields added since are fine."""
    if isinstance(kept, dict) and isinstance(found, dict):
        return all(name in found and holds(found[name], value) for name, value in kept.items())
    if isinstance(kept, list) and isinstance(found, list):
        return len(found) == len(kept) and all(map(holds, found, kept))
    return bool(found == kept)


@pytest.mark.parametrize("path", GOLDEN_FRAMES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_frames_of_every_earlier_version_are_still_read(path: Path) -> None:
    frames.learn(orjson.loads(path.with_suffix(".schema.json").read_bytes()))
    model = golden.model_of(path)
    found = frames.decode(model, path.read_bytes()).model_dump(mode="json")
    assert holds(found, orjson.loads(path.with_suffix(".json").read_bytes()))


@pytest.mark.parametrize("path", GOLDEN_FRAMES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_writing_a_golden_frame_again_gives_the_same_bytes(path: Path) -> None:
    model = golden.model_of(path)
    kept = path.read_bytes()
    if kept[2:10] != frames.fingerprint_of(model):
        pytest.skip("written by an earlier version")
    assert frames.encode(model.model_validate_json(path.with_suffix(".json").read_bytes())) == kept


# What a later version may do to a record, tried on the prompt inside a frame of two prompts.


def of_prompt(schema: Any) -> Any:
    """Return the fields of `Prompt` inside the schema of ModeratedFrame."""
    moderated = schema["fields"][0]["type"]["items"]
    return moderated["fields"][0]["type"]["fields"]


def add_optional(fields: list[Any]) -> None:
    fields.insert(2, {"name": "locale", "type": ["null", "string"], "default": None})


def add_with_default(fields: list[Any]) -> None:
    fields.append({"name": "priority", "type": "int", "default": 5})


def remove_one_with_default(fields: list[Any]) -> None:
    fields.remove(next(field for field in fields if field["name"] == "source"))


def reorder(fields: list[Any]) -> None:
    fields.reverse()


def widen(fields: list[Any]) -> None:
    next(field for field in fields if field["name"] == "partition")["type"] = "long"


def changed(change: Any) -> Any:
    schema = deepcopy(frames.definition_of(ModeratedFrame))
    change(of_prompt(schema))
    return schema


def written(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return frames.MARKER + frames.learn(schema) + out.getvalue()


FRAME = EXAMPLES[0]
CHANGES = [add_optional, add_with_default, remove_one_with_default, reorder]


@pytest.mark.parametrize("change", [*CHANGES, widen], ids=lambda change: change.__name__)
def test_an_old_reader_understands_a_new_writer(change: Any) -> None:
    datum = FRAME.model_dump()
    for part in datum["prompts"]:
        part["prompt"] |= {"locale": "el", "priority": 1}
    if change is widen:
        # Avro promotes int to long, never back: a field may be widened only once every reader has been.
        with pytest.raises(UndecodableRecord):
            frames.decode(ModeratedFrame, written(changed(change), datum))
        return
    found = frames.decode(ModeratedFrame, written(changed(change), datum)).model_dump()
    for part in datum["prompts"]:
        del part["prompt"]["locale"], part["prompt"]["priority"]
        if change is remove_one_with_default:
            part["prompt"]["source"] = ""
    assert found == datum


@pytest.mark.parametrize("change", [*CHANGES, widen], ids=lambda change: change.__name__)
def test_a_new_reader_understands_an_old_writer(change: Any) -> None:
    body = io.BytesIO(frames.encode(FRAME)[frames.HEADER_BYTES :])
    reader = fastavro.parse_schema(changed(change))
    found = fastavro.schemaless_reader(body, frames.schema_of(ModeratedFrame), reader)
    expected = FRAME.model_dump(mode="json")
    for part in expected["prompts"]:
        if change is add_optional:
            part["prompt"]["locale"] = None
        if change is add_with_default:
            part["prompt"]["priority"] = 5
        if change is remove_one_with_default:
            del part["prompt"]["source"]
    assert found == expected


def test_a_field_added_without_a_default_would_lock_old_frames_out() -> None:
    """The reason for the rule that a new field has a default: this is what breaking it looks like."""
    reader = fastavro.parse_schema(changed(lambda fields: fields.append({"name": "priority", "type": "int"})))
    body = io.BytesIO(frames.encode(FRAME)[frames.HEADER_BYTES :])
    with pytest.raises(fastavro.read.SchemaResolutionError, match="priority"):
        fastavro.schemaless_reader(body, frames.schema_of(ModeratedFrame), reader)


def records_of(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the records inside a schema by name, each as its fields by name."""
    if isinstance(schema, list):
        return {name: fields for part in schema for name, fields in records_of(part).items()}
    if not isinstance(schema, dict):
        return {}
    inside = records_of([field["type"] for field in schema.get("fields", [])])
    inside |= records_of([schema.get("items"), schema.get("values")])
    if isinstance(schema["type"], dict | list):
        inside |= records_of(schema["type"])
    if schema["type"] == "record":
        inside[schema["name"]] = {field["name"]: field for field in schema["fields"]}
    return inside


@pytest.mark.parametrize(
    "path",
    [path.with_suffix(".schema.json") for path in GOLDEN_FRAMES],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_fields_added_or_removed_since_have_a_default_on_the_side_that_has_them(path: Path) -> None:
    earlier = records_of(orjson.loads(path.read_bytes()))
    current = records_of(frames.schema_of(golden.model_of(path)))
    assert earlier
    for name in earlier.keys() & current.keys():
        for field in current[name].keys() ^ earlier[name].keys():
            side = current[name] if field in current[name] else earlier[name]
            assert "default" in side[field], f"{name}.{field}: a reader of the other age has nothing to put there"
