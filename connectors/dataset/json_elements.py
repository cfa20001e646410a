"""Cut a JSON file into its elements without holding more than one of them.

A parser stops at the first error; a file of prompts has to survive it. So the file is first cut
(brackets and strings are followed, nothing else is understood), then each piece is parsed alone.
    - The elements of the outermost array are the pieces; without an array, each object is one.
    - A line break in a string, which JSON does not allow, ends the element: it is broken.
    - An element that never closes costs its first line only; cutting starts again behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from connectors.dataset.lines import LINE_CHARS_MAX

CHUNK_CHARS = 64 * 1024
# Restarts behind an element that never closes. A file that needs more is not JSON; each one reads up to 4 MiB again.
RESTARTS_MAX = 100

OUTSIDE = re.compile(r'["\[\]{},]')
INSIDE = re.compile(r'["\\\n]')
GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Element:
    """One piece of the file and the line it starts on. `problem` says why it cannot be parsed."""

    line: int
    text: str
    problem: str = ""


def elements_of(text: TextIO) -> Iterator[Element]:
    """Yield the elements of a JSON file in order."""
    cutter = Cutter()
    while chunk := text.read(CHUNK_CHARS):
        yield from cutter.feed(chunk)
        if cutter.gave_up:
            return
    yield from cutter.finish()


class Cutter:
    """Follows brackets and strings over chunks. Everything before `_start` has been handed out."""

    def __init__(self) -> None:
        self.gave_up = False
        self._buffer = ""
        self._start = 0
        self._at = 0  # how far `_buffer` has been followed
        self._line = 1  # line of `_start`
        self._open: list[str] = []  # the closing brackets that the element still needs
        self._in_array = False
        self._in_string = False
        self._skipping = False  # up to the next line
        self._restarts = 0

    def feed(self, chunk: str) -> Iterator[Element]:
        if self._skipping:
            _, found, chunk = chunk.partition("\n")
            self._skipping = not found
        self._buffer = self._buffer[self._start :] + chunk
        self._at -= self._start
        self._start = 0
        yield from self._follow()
        while len(self._buffer) - self._start > LINE_CHARS_MAX and not self.gave_up:
            yield self._restart(f"longer than {LINE_CHARS_MAX} characters")
            yield from self._follow()

    def finish(self) -> Iterator[Element]:
        """Hand out what is left at the end of the file."""
        while (self._open or self._in_string) and not self.gave_up:
            yield self._restart("never closed")
            yield from self._follow()
        if not self.gave_up:
            yield from self._cut(len(self._buffer))

    def _follow(self) -> Iterator[Element]:
        while not self.gave_up:
            match = (INSIDE if self._in_string else OUTSIDE).search(self._buffer, self._at)
            if match is None:
                self._at = len(self._buffer)
                return
            mark, self._at = match[0], match.end()
            if mark == "\\":
                if self._at == len(self._buffer):
                    self._at -= 1  # the escaped character is in the next chunk
                    return
                self._at += self._buffer[self._at] != "\n"
            elif mark == '"':
                self._in_string = not self._in_string
            elif mark == "\n":
                yield self._restart("a string is not closed", behind=self._at)
            else:
                yield from self._bracket(mark)

    def _bracket(self, mark: str) -> Iterator[Element]:
        if mark == "{" or (mark == "[" and self._open):
            self._open.append("]" if mark == "[" else "}")
        elif mark == "[" and not self._in_array:
            yield from self._cut(self._at - 1)
            self._start, self._in_array = self._at, True
        elif self._open:
            yield from self._inside(mark)
        elif mark == ",":
            yield from self._cut(self._at - 1)
        elif mark == "]" and self._in_array:
            yield from self._cut(self._at - 1)
            self._start, self._in_array = self._at, False
        # Left: a bracket between objects. An array there is no prompt, and must not swallow what follows.

    def _inside(self, mark: str) -> Iterator[Element]:
        if mark == self._open[-1]:
            self._open.pop()
            if not self._open and not self._in_array:
                yield from self._cut(self._at)
        elif mark != ",":
            yield self._restart(f"a bracket is closed by {mark}")

    def _cut(self, end: int) -> Iterator[Element]:
        gap = GAP.match(self._buffer, self._start, end)
        begin = gap.end() if gap else self._start
        self._line += self._buffer.count("\n", self._start, begin)
        piece = self._buffer[begin:end].rstrip()
        if piece:
            yield Element(self._line, piece)
        self._line += self._buffer.count("\n", begin, end)
        self._start = end

    def _restart(self, problem: str, behind: int = 0) -> Element:
        """Return the broken element, which ends at `behind` or else with its first line, and go on from there."""
        gap = GAP.match(self._buffer, self._start)
        begin = gap.end() if gap else self._start
        self._line += self._buffer.count("\n", self._start, begin)
        end = behind or self._buffer.find("\n", begin) + 1 or len(self._buffer)
        self._skipping = self._buffer[end - 1] != "\n"  # the rest of the line is in the next chunk
        self._restarts += 1
        if self._restarts > RESTARTS_MAX:
            self.gave_up = True
            problem += f"; after {RESTARTS_MAX} such elements the rest of the file is left out"
        element = Element(self._line, self._buffer[begin:end].rstrip(), problem)
        self._line += self._buffer.count("\n", begin, end) + self._skipping
        self._start = self._at = end
        self._open, self._in_string = [], False
        return element
