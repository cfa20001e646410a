"""Frames as earlier versions wrote them: schema, bytes and what they mean, one folder a version.

    python -m tests.contracts.golden v2      # after a change of schemas/avro: keep the new version too

A folder is written once and never changed: the bytes stand for records that lie in somebody's topics.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from schemas import prompts
from schemas.prompts import Model
from streams.engine import frames
from tests.wire import EXAMPLES

FOLDER = Path(__file__).parent / "golden"


def versions() -> list[Path]:
    return sorted(path for path in FOLDER.iterdir() if path.is_dir())


def model_of(path: Path) -> type[Model]:
    model: type[Model] = getattr(prompts, path.name.split(".")[0])
    return model


def write(version: str) -> None:
    folder = FOLDER / version
    folder.mkdir(parents=True)
    for frame in EXAMPLES:
        stem = folder / type(frame).__name__
        schema = orjson.dumps(frames.definition_of(type(frame)), option=orjson.OPT_INDENT_2)
        stem.with_suffix(".schema.json").write_bytes(schema + b"\n")
        stem.with_suffix(".avro").write_bytes(frames.encode(frame))
        stem.with_suffix(".json").write_text(frame.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
