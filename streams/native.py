"""Which rooms run as machine code, and where it lies.

`python -m infra.compile` compiles the Python of the rooms named here with mypyc, into a folder of the environment that
is named by a fingerprint of their sources. A room asks for that folder when it is imported, and goes before its sources
only while the fingerprint is theirs: whoever edits a file runs plain Python until it is compiled again, and never code
that is stale. The answers are the same either way, compiled a prompt takes a sixth less time. What is other than in
Python: types are checked where they are declared, so an element of an array (`np.int64`) is no `int`.

PROMPTLOOM_PLAIN=1 runs the sources, for a debugger, a profiler, or to measure coverage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import xxhash

PLAIN = "PROMPTLOOM_PLAIN"
SOURCES = Path(__file__).parent.parent
ROOMS = ("streams/prompts/clustering", "streams/prompts/canonicalization")
LEFT_OUT = {"__init__.py", "agent.py"}  # what runs once a unit of prompts, or waits
# Whose types and constants the machine code takes for granted.
IMPORTED = ("schemas/*.py", "streams/compiler.py", *(f"{room}/compiled/*.py" for room in ROOMS))


@cache
def code() -> Path | None:
    """Return where the machine code lies that this process runs; None if it runs the sources."""
    if os.environ.get(PLAIN, "0") not in {"", "0"}:
        return None
    folder = folder_of_code(fingerprint())
    return folder if folder.is_dir() else None


def is_compiled() -> bool:
    """Tell whether the rooms run as machine code in this process."""
    return code() is not None


def path_of_room(path: Iterable[str]) -> list[str]:
    """Return where the modules of a room are looked for, given where its sources lie."""
    sources, folder = list(path), code()
    if folder is None:
        return sources
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # where the modules find the library that they share
    return [str(folder / Path(source).relative_to(SOURCES)) for source in sources] + sources


def compiled_sources() -> list[Path]:
    """Return the files that become machine code."""
    return [file for room in ROOMS for file in sorted((SOURCES / room).glob("*.py")) if file.name not in LEFT_OUT]


def fingerprint() -> str:
    """Return what tells these very sources, read by this version of Python, from others."""
    digest = xxhash.xxh3_64()
    for file in (*compiled_sources(), *(file for some in IMPORTED for file in sorted(SOURCES.glob(some)))):
        digest.update(f"{file.relative_to(SOURCES)}\n".encode())
        digest.update(file.read_bytes())
    return f"{sys.implementation.cache_tag}-{digest.hexdigest()}"


def folder_of_code(sources: str) -> Path:
    """Return where the machine code of sources with this fingerprint lies, if they were compiled."""
    return Path(sys.prefix) / "lib" / "promptloom" / sources
