"""Dead letters: the record as it came, and why it was refused.

The value, key and own headers of the record are kept byte for byte; `__promptloom.errors.*` headers
are added. Error texts can quote what they could not handle, and what fails here is a prompt: only an
`InputError`, whose messages are written not to quote any, keeps its message. Others keep their
type and the place that raised them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError, RecordTooLarge
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.limits import DEAD_LETTER_HEADERS_BYTES, ERROR_MESSAGE_CHARS_MAX
from streams.engine.ports import Headers, Record

HEADER_PREFIX = "__promptloom.errors."


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where dead letters go."""

    topic: str
    partitions: int

    def address(self, record: Record, error: Exception, stage: str) -> tuple[str, int, Headers, bytes | None]:
        """Return topic, partition, headers and value of the dead letter of a record."""
        headers = _own(record.headers) + error_headers(record, error, stage)
        value, cut = fit(record, headers)
        return self.topic, record.partition % self.partitions, headers + cut, value


def error_headers(record: Record, error: Exception, stage: str) -> Headers:
    """Return the headers that say why a record was refused."""
    said = {
        "stage": stage,
        "exception": type(error).__name__,
        "message": message(error),
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    return tuple((HEADER_PREFIX + name, text.encode("utf-8", "replace")) for name, text in said.items())


def message(error: Exception) -> str:
    """Return a bounded text about the error that holds nothing of the record."""
    if isinstance(error, InputError | RecordTooLarge):
        text = str(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        text = f"raised in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "raised"
    return text.split("\n", 1)[0][:ERROR_MESSAGE_CHARS_MAX]


def fit(record: Record, headers: Headers) -> tuple[bytes | None, Headers]:
    """Return the value, cut only where the record was so large that the added headers make it too large.

    A dead letter that the broker refuses would be tried for ever.
    """
    value = record.value
    room = RECORD_BYTES_MAX - DEAD_LETTER_HEADERS_BYTES - len(record.key or b"")
    room -= sum(len(name) + len(content) for name, content in headers)
    if value is None or len(value) <= room:
        return value, ()
    return value[: max(room, 0)], ((HEADER_PREFIX + "value_bytes", str(len(value)).encode()),)


def _own(headers: Headers) -> Headers:
    """Without the error headers of an earlier life: a replayed dead letter may fail again."""
    return tuple((name, value) for name, value in headers if not name.startswith(HEADER_PREFIX))
