"""What a replay remembers of a file: how far the broker has it, and what was bad in it.

A checkpoint says: everything up to this number of the file is settled, that is acknowledged by the broker
or written to the report of bad lines. It is written after the fact, so after a kill -9 some prompts are sent
again (harmless: their ids are the same) and none is left out. It belongs to one file content, sent to one
cluster and topic as one tenant; a file that changed starts anew.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import orjson

from connectors.dataset import BadLine
from schemas.ids import derive

EXCERPT_CHARS_MAX = 80
# What may be a key, a token or a number that is somebody's: long, and not a word.
SECRET_LIKE = re.compile(
    r"(?=[\w+/=.:@-]*\d)[\w+/=.:@-]{12,}|[\w.+-]+@[\w.-]+|(?i:(?:password|secret|token|key)\W+)\S+"
)
MASK = "[masked]"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one file is settled. `complete` when nothing of it is left."""

    file: str
    settled: int = 0
    prompts: int = 0
    bad: int = 0
    complete: bool = False


class Checkpoints:
    """The checkpoints in a folder, one small file each, replaced whole."""

    def __init__(self, folder: Path, *, cluster_id: str, topic: str, tenant: str) -> None:
        self._folder = folder
        self._scope = (cluster_id, topic, tenant)

    def load(self, file: Path, sha256: str) -> Checkpoint:
        try:
            return Checkpoint(**orjson.loads(self._path(sha256).read_bytes()))
        except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
            # None yet, or not one of ours: starting at the beginning repeats, and repeats are harmless.
            return Checkpoint(str(file))

    def save(self, checkpoint: Checkpoint, sha256: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(sha256)
        draft = path.with_suffix(".draft")
        draft.write_bytes(orjson.dumps(asdict(checkpoint)))
        draft.replace(path)

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{derive('replay', sha256, *self._scope)}.json"


class Window:
    """What is on its way to the broker, in the order of the file.

    Acknowledgements come in any order; `settled` moves over a number only when all before it are settled too.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.prompts = checkpoint.prompts
        self.bad = checkpoint.bad
        self.settled = checkpoint.settled
        self._waiting: deque[int] = deque()
        self._done: dict[int, bool] = {}  # number -> is a prompt

    def sent(self, number: int) -> None:
        self._waiting.append(number)

    def acknowledged(self, number: int) -> None:
        self._done[number] = True
        self._advance()

    def found_bad(self, number: int) -> None:
        self._waiting.append(number)
        self._done[number] = False
        self._advance()

    def _advance(self) -> None:
        while self._waiting and self._waiting[0] in self._done:
            self.settled = self._waiting.popleft()
            if self._done.pop(self.settled):
                self.prompts += 1
            else:
                self.bad += 1


class Report:
    """The bad lines of one replay, as JSON lines; the file appears with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._out: IO[bytes] | None = None

    def add(self, file: Path, bad: BadLine) -> None:
        if self._out is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._out = self.path.open("ab", buffering=0)
        row = {"file": str(file), "line": bad.number, "reason": bad.reason, "excerpt": excerpt(bad.excerpt)}
        self._out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self.lines += 1

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


def excerpt(text: str) -> str:
    """Return the beginning of a bad line, enough to find it by, without what may be a secret."""
    # Masked before it is cut, so that no half of a secret stays at the end.
    beginning = SECRET_LIKE.sub(MASK, " ".join(text[: 4 * EXCERPT_CHARS_MAX].split()))
    return beginning[:EXCERPT_CHARS_MAX].encode("utf-8", "replace").decode()
