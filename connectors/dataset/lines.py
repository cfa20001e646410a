"""Turn the bytes of a file into lines of text, in bounded memory, never failing on a bad one.

Rules of the encoding, in this order:
    1. a byte order mark decides;
    2. an encoding named by the caller (`--encoding`, a data package) is believed;
    3. JSON and JSON Lines are UTF-8, as their standards say;
    4. CSV and plain text are UTF-8 too, unless more lines of the head break it than prove it:
       then they are cp1252, the old encoding of western spreadsheets.
Bytes that do not fit become U+DCFF, which no text can hold, so a line that has one is known as bad
while the lines around it are read as usual.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, TextIO

from schemas.limits import RECORD_BYTES_MAX

# What is looked at to tell encoding and layout. Enough to meet an accented letter in real text.
HEAD_BYTES = 256 * 1024
# A line that is longer cannot be a prompt: the record made of it would be refused.
LINE_CHARS_MAX = RECORD_BYTES_MAX

MARK = "\udcff"
ON_ERROR = "promptloom-mark"
FALLBACK = "cp1252"
# UTF-32 first: its little-endian mark begins with the one of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line, counted from 1. One with a `problem` is not to be used."""

    number: int
    text: str
    problem: str = ""


def encoding_of(head: bytes, *, declared: str = "", always_utf8: bool) -> str:
    """Return the encoding of a file that begins with `head`."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if declared:
        return declared
    if always_utf8:
        return "utf-8"
    complete = head.split(b"\n")[:-1] if len(head) >= HEAD_BYTES else head.split(b"\n")
    foreign = [line for line in complete if not line.isascii()]
    broken = sum(1 for line in foreign if not _is_utf8(line))
    return FALLBACK if broken > len(foreign) - broken else "utf-8"


def text_of(handle: BinaryIO, encoding: str) -> TextIO:
    """Return the decoded file; what does not decode is marked."""
    return io.TextIOWrapper(handle, encoding=encoding, errors=ON_ERROR, newline="\n")


def lines_of(text: TextIO, encoding: str, *, with_ends: bool = False) -> Iterator[Line]:
    """Yield every line of the file, the bad ones with what is wrong with them."""
    number = 0
    while line := text.readline(LINE_CHARS_MAX + 1):
        number += 1
        if len(line) > LINE_CHARS_MAX:
            excerpt = line[:1000]
            while line and not line.endswith("\n"):
                line = text.readline(LINE_CHARS_MAX)
            yield Line(number, excerpt, f"longer than {LINE_CHARS_MAX} characters")
        elif MARK in line:
            yield Line(number, line, undecodable(encoding))
        else:
            yield Line(number, line if with_ends else line.removesuffix("\n").removesuffix("\r"))


def undecodable(encoding: str) -> str:
    """Return the reason given for bytes that do not fit the encoding."""
    return f"bytes that are not {encoding}; name the encoding of the file if it is another"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK, error.end


codecs.register_error(ON_ERROR, _mark)
