"""Find the prompt files under a path, and open each as what it is.

A folder (or the folder of a named file) may hold a `datapackage.json` (Frictionless Data): then its
`resources` say which files are prompts, in which order, and what cannot be told from a file alone:
`format`, `encoding`, `dialect.delimiter`, and `tenant` for rows that name none. Without one, every file
below the folder whose name ends in a known format is read, in the order of the names.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import sys
import sysconfig
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from connectors.dataset import formats
from connectors.dataset.lines import HEAD_BYTES, encoding_of, text_of
from schemas.errors import InputError

DESCRIPTOR = "datapackage.json"
INSTALLED = "share/promptloom/Dataset"  # under the environment's data folder; see pyproject.toml
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "txt",
}
ALWAYS_UTF8 = {"jsonl", "json"}
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
# The number of a place behind all rows.
LAST = sys.maxsize
HASH_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A file of prompts and what was said about it. Empty = to be found out."""

    path: Path
    format: str
    encoding: str = ""
    delimiter: str = ""
    tenant: str = ""

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def shipped() -> Path:
    """Return the folder of prompts that comes with the program: beside its source, or installed with it.

    Raises:
        InputError: it was left out of this installation.
    """
    for folder in (Path(__file__).resolve().parents[2] / "Dataset", Path(sysconfig.get_path("data")) / INSTALLED):
        if (folder / DESCRIPTOR).is_file():
            return folder
    raise InputError(
        "the prompts that come with promptloom are not installed", hint="name a file or folder of your own"
    )


def find(path: Path, *, encoding: str = "") -> list[PromptFile]:
    """Return the prompt files at or below `path`. An `encoding` given here is the one of them all.

    Raises:
        InputError: there are none, or the data package or the encoding is not usable.
    """
    if encoding:
        _check_encoding(encoding, "--encoding")
    if path.is_dir():
        files = _described(path) or _by_name(sorted(path.rglob("*")))
    else:
        files = [file for file in _described(path.parent) if file.path == path] or _by_name([path])
    if not files:
        raise InputError(
            f"reading {path}: no file of prompts there",
            hint=f"names end in {', '.join(FORMATS)}, with or without .gz",
        )
    return [
        PromptFile(file.path, file.format, encoding or file.encoding, file.delimiter, file.tenant) for file in files
    ]


class Reading:
    """The rows and the bad lines of one file, in its order, and how far into the file they have come."""

    def __init__(self, file: PromptFile) -> None:
        self._file = file
        self._raw: BinaryIO | None = None

    @property
    def bytes_read(self) -> int:
        """Return how many bytes of the file on the disk have been read."""
        return self._raw.tell() if self._raw and not self._raw.closed else 0

    def __iter__(self) -> formats.Read:
        file = self._file
        with file.path.open("rb") as self._raw:
            try:
                head = _head(_unpacked(self._raw, file.path))
                self._raw.seek(0)
                encoding = encoding_of(head, declared=file.encoding, always_utf8=file.format in ALWAYS_UTF8)
                text = text_of(_unpacked(self._raw, file.path), encoding)
                if file.format == "jsonl":
                    yield from formats.json_lines(text, encoding)
                elif file.format == "json":
                    yield from formats.json_file(text, encoding)
                elif file.format == "csv":
                    yield from formats.csv_rows(text, encoding, file.delimiter)
                elif _in_blocks(head, encoding):
                    yield from formats.text_blocks(text, encoding)
                else:
                    yield from formats.text_lines(text, encoding)
            except DAMAGED as error:
                yield formats.BadLine(LAST, f"the compressed file is damaged: {error}; what follows is lost")


def read(file: PromptFile) -> Reading:
    """Return the rows and bad lines of a file, to be iterated over once."""
    return Reading(file)


def sha256_of(file: PromptFile) -> str:
    """Return the hash of the file as it lies on the disk, from which the ids of its prompts derive."""
    digest = hashlib.sha256()
    with file.path.open("rb") as handle:
        while chunk := handle.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _head(handle: BinaryIO) -> bytes:
    """Return the beginning of a file, or what can be had of it."""
    head = bytearray()
    try:
        while len(head) < HEAD_BYTES and (chunk := handle.read1(HEAD_BYTES - len(head))):  # type: ignore[attr-defined]
            head += chunk
    except DAMAGED:
        pass  # met again, and reported, when the rows are read
    return bytes(head)


def _unpacked(raw: BinaryIO, path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb")) if path.suffix == ".gz" else raw


def _format_of(path: Path) -> str:
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return FORMATS.get(name.suffix.lower(), "") if path.is_file() and path.name != DESCRIPTOR else ""


def _in_blocks(head: bytes, encoding: str) -> bool:
    return formats.BLOCK_SEPARATOR in head.decode(encoding, errors="replace").splitlines()


def _by_name(paths: list[Path]) -> list[PromptFile]:
    return [PromptFile(path, format_name) for path in paths if (format_name := _format_of(path))]


def _described(folder: Path) -> list[PromptFile]:
    descriptor = folder / DESCRIPTOR
    if not descriptor.is_file():
        return []
    try:
        resources = json.loads(descriptor.read_text(encoding="utf-8"))["resources"]
        return [_resource(folder, resource) for resource in resources]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"reading {descriptor}: not a usable data package ({type(error).__name__}: {error})",
            hint="remove it to have every file of the folder read",
        ) from None


def _resource(folder: Path, resource: dict[str, object]) -> PromptFile:
    path = folder / str(resource["path"])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"reading {folder / DESCRIPTOR}: {resource['path']} lies outside the folder")
    if not path.is_file():
        raise InputError(f"reading {folder / DESCRIPTOR}: {resource['path']} is not there")
    encoding = str(resource.get("encoding", ""))
    _check_encoding(encoding or "utf-8", str(path))
    dialect = resource.get("dialect")
    delimiter = str(dialect.get("delimiter", "")) if isinstance(dialect, dict) else ""
    format_name = str(resource.get("format", "")) or _format_of(path)
    if format_name not in FORMATS.values():
        raise InputError(f"reading {folder / DESCRIPTOR}: {path.name} is of no known format ({format_name!r})")
    return PromptFile(path, format_name, encoding, delimiter, str(resource.get("tenant", "")))


def _check_encoding(encoding: str, where: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(f"reading {where}: there is no encoding {encoding!r}", hint="try utf-8 or cp1252") from None
