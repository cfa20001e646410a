"""The Avro schemas of the internal frames, one record a file, found by full name.

A file `promptloom.X.avsc` describes the model `X` of `schemas/prompts.py`, field by field;
`tests/contracts/test_avro_schemas.py` compares the two. A field added later needs a default on both
sides, so that a reader of either age understands a writer of the other.
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder that holds the schema files."""
    return Path(__file__).parent
