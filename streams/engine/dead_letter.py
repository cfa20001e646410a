"""Dead letters: the record as it came, and why it was refused.

The value, key and own headers of the record are kept byte for byte; headers that say why are added,
under a prefix of the app's choice. Error texts can quote what they could not handle, and what fails
here is a prompt: only an `InputError`, whose messages are written not to quote any, keeps its message.
Others keep their type and the place that raised them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError, RecordTooLarge
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.limits import DEAD_LETTER_HEADERS_BYTES, ERROR_MESSAGE_CHARS_MAX
from streams.engine.ports import Headers, Record

HEADER_PREFIX_DEFAULT = "__errors."


@dataclass(frozen=True, slots=True)
class Letter:
    """A record for the dead letters."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where dead letters go, and how the headers begin that say why."""

    topic: str
    partitions: int
    header_prefix: str = HEADER_PREFIX_DEFAULT

    def letter(self, record: Record, error: Exception, stage: str) -> Letter:
        """Return the dead letter of a record, small enough for its topic whatever the record is.

        A dead letter that the broker refuses would be tried for ever. So where a record is so large
        that the added headers make it too large, its value is cut, and a header says how long it was.
        """
        headers = self._error_headers(record, error, stage)
        room = RECORD_BYTES_MAX - DEAD_LETTER_HEADERS_BYTES
        key = record.key if len(record.key or b"") < room // 2 else None
        room -= len(key or b"")
        own = self._own(record.headers)
        own_bytes = sum(len(name) + len(value or b"") for name, value in own)
        if own_bytes < room // 2:
            headers = own + headers
            room -= own_bytes
        value = record.value
        if value is not None and len(value) > room:
            headers += ((self.header_prefix + "value_bytes", str(len(value)).encode()),)
            value = value[:room]
        return Letter(self.topic, record.partition % self.partitions, key, value, headers)

    def _error_headers(self, record: Record, error: Exception, stage: str) -> Headers:
        """Return the headers that say why a record was refused."""
        said = {
            "stage": stage,
            "exception": type(error).__name__,
            "message": message(error),
            "topic": record.topic,
            "partition": str(record.partition),
            "offset": str(record.offset),
        }
        return tuple((self.header_prefix + name, text.encode("utf-8", "replace")) for name, text in said.items())

    def _own(self, headers: Headers) -> Headers:
        """Without the error headers of an earlier life: a replayed dead letter may fail again."""
        return tuple((name, value) for name, value in headers if not name.startswith(self.header_prefix))


def message(error: Exception) -> str:
    """Return a bounded text about the error that holds nothing of the record."""
    if isinstance(error, InputError | RecordTooLarge):
        text = str(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        text = f"raised in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "raised"
    return text.split("\n", 1)[0][:ERROR_MESSAGE_CHARS_MAX]
