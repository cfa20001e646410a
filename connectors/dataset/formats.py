"""Read prompts from JSON Lines, JSON, CSV and text files: one generator a format, none holds the file.

Each yields, in the order of the file, a `Row` (its number, fields as a client would send them) or a
`BadLine`. What is checked here is the file's form; whether a row is an acceptable prompt is decided where
prompts are decoded. Numbers only rise: they are those of the line a row starts on or, in JSON, where several
may share a line, of the element; both from 1.

    JSON Lines   one object a line; blank lines are skipped
    JSON         an array of objects, or objects one after the other
    CSV          first row names the columns; comma, semicolon, tab or bar is told from it; an empty cell is an
                 absent field; `usage.model` is a field of `usage`; columns that are no prompt field go to `metadata`
    text         one prompt a line, blank lines are skipped; if the head of the file holds a line that is just
                 `---`, such lines part prompts of several lines

A row without `text` and `messages` takes its text from the first of TEXT_FIELDS it has.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TextIO

import orjson

from connectors.dataset.json_elements import RESTARTS_MAX, elements_of
from connectors.dataset.lines import LINE_CHARS_MAX, MARK, Line, lines_of, undecodable

TEXT_FIELDS = ("text", "prompt", "content", "input", "instruction", "question", "query")
DELIMITERS = ",;\t|"
BLOCK_SEPARATOR = "---"
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
PLAIN_COLUMNS = {"text", "id", "tenant", "source", "created_at"}
JSON_COLUMNS = {"messages", "metadata"}
USAGE_PREFIX = "usage."
USAGE_TYPES: dict[str, type] = {
    "model": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "cost_usd": float,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a file, as a client would send it."""

    number: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A place in a file that is no prompt, and why. `excerpt` may be long and is not to be logged as it is."""

    number: int
    reason: str
    excerpt: str = ""


Read = Iterator[Row | BadLine]


def json_lines(text: TextIO, encoding: str) -> Read:
    for line in lines_of(text, encoding):
        if line.problem:
            yield BadLine(line.number, line.problem, line.text)
        elif line.text.strip():
            yield _json_row(line.number, line.text)


def json_file(text: TextIO, encoding: str) -> Read:
    for number, element in enumerate(elements_of(text), start=1):
        problem = element.problem or (undecodable(encoding) if MARK in element.text else "")
        row = BadLine(number, problem, element.text) if problem else _json_row(number, element.text)
        yield replace(row, reason=f"on line {element.line}: {row.reason}") if isinstance(row, BadLine) else row


def text_lines(text: TextIO, encoding: str) -> Read:
    for line in lines_of(text, encoding):
        if line.problem:
            yield BadLine(line.number, line.problem, line.text)
        elif line.text.strip():
            yield Row(line.number, {"text": line.text})


def text_blocks(text: TextIO, encoding: str) -> Read:
    first, chars, problem = 0, 0, ""
    block: list[str] = []
    for line in chain(lines_of(text, encoding), [Line(0, BLOCK_SEPARATOR)]):
        if line.text == BLOCK_SEPARATOR and not line.problem:
            content = "\n".join(block)
            if problem:
                yield BadLine(first, problem, content)
            elif content.strip():
                yield Row(first, {"text": content})
            first, chars, problem = 0, 0, ""
            block = []
            continue
        first = first or line.number
        chars += len(line.text) + 1
        problem = problem or line.problem
        if chars > LINE_CHARS_MAX:
            problem = f"a block of more than {LINE_CHARS_MAX} characters"
        if not problem:
            block.append(line.text)


def csv_rows(text: TextIO, encoding: str, delimiter: str = "") -> Read:
    csv.field_size_limit(LINE_CHARS_MAX)
    feed = _Feed(lines_of(text, encoding, with_ends=True))
    header = feed.next_line()
    if header is None:
        return
    delimiter = delimiter or max(DELIMITERS, key=header.text.count)
    columns = [name.strip() for name in next(csv.reader([header.text], delimiter=delimiter))]
    if not {name.lower() for name in columns} & {*TEXT_FIELDS, "messages"}:
        wanted = ", ".join(TEXT_FIELDS)
        yield BadLine(header.number, f"no column of the header is named {wanted} or messages", header.text)
        return
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(feed.first, f"not CSV: {error}", feed.taken[0].text if feed.taken else "")
            feed.take_again_behind_first()
            continue
        if any(MARK in cell for cell in cells):
            problem = next((line.problem for line in feed.taken if line.problem), undecodable(encoding))
            yield BadLine(feed.first, problem, delimiter.join(cells))
        elif len(cells) > len(columns):
            yield BadLine(feed.first, f"{len(cells)} cells under {len(columns)} columns", delimiter.join(cells))
        elif any(cells):
            yield _csv_row(feed.first, dict(zip(columns, cells, strict=False)))


class _Feed:
    """Hands lines to the CSV reader and remembers those of the current record.

    A quote that is never closed swallows everything behind it; the lines behind its first are then read again.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self.taken: list[Line] = []
        self._lines = lines
        self._again: deque[Line] = deque()
        self._restarts = 0

    @property
    def first(self) -> int:
        return self.taken[0].number if self.taken else 0

    def begin(self) -> None:
        self.taken = []

    def next_line(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def take_again_behind_first(self) -> None:
        if self._restarts < RESTARTS_MAX:
            self._restarts += len(self.taken) > 1
            self._again.extendleft(reversed(self.taken[1:]))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.next_line()
        if line is None:
            raise StopIteration
        self.taken.append(line)
        return MARK + "\n" if line.problem else line.text


def _csv_row(number: int, cells: dict[str, str]) -> Row | BadLine:
    fields: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for name, cell in cells.items():
        column = name.lower()
        if not cell:
            continue
        try:
            if column in JSON_COLUMNS:
                fields[column] = orjson.loads(cell)
            elif column.startswith(USAGE_PREFIX) and (key := column.removeprefix(USAGE_PREFIX)) in USAGE_TYPES:
                usage[key] = USAGE_TYPES[key](cell)
            elif column in PLAIN_COLUMNS or column in TEXT_FIELDS:
                fields[column] = cell
            else:
                metadata[name] = cell
        except ValueError as error:
            return BadLine(number, f"column {name}: {error}", cell)
    if usage:
        fields["usage"] = usage
    if metadata and isinstance(fields.setdefault("metadata", {}), dict):
        fields["metadata"] = {**metadata, **fields["metadata"]}
    return Row(number, _with_text(fields))


def _json_row(number: int, text: str) -> Row | BadLine:
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        return BadLine(number, f"not JSON: {error}", text)
    if not isinstance(value, dict):
        return BadLine(number, "JSON, but not an object", text)
    return Row(number, _with_text(value))


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # A lone surrogate escape is half a character, not a broken line: where prompts are decoded it is mended.
        if not SURROGATE_ESCAPE.search(text):
            raise
        return json.loads(text)


def _with_text(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("text") is None and fields.get("messages") is None:
        for name in TEXT_FIELDS:
            if isinstance(fields.get(name), str):
                fields["text"] = fields.pop(name)
                break
    return fields
