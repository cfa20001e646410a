"""Machine code of the rooms: used while it is of these very sources, and with the same answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.native import PLAIN, SOURCES, fingerprint, folder_of_code

ROOM = "streams/prompts/clustering"
# In an environment of its own: the argument.
WHERE = """
import sys

sys.prefix = sys.argv[1]
import streams.prompts.clustering as room
import streams.native

print(room.__path__[0], streams.native.is_compiled())
"""
ANSWERS = """
import hashlib
from pathlib import Path

from connectors.embedders.wordllama import WordllamaEmbedder
from infra.bench.generated import NOT_MODERATED, prompt_of
from infra.bench.quality.sets import load
from streams.native import is_compiled
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering.arrivals import arrivals

rows = load("dataset", Path())[0].rows[:1_500]
embedder = WordllamaEmbedder()
vectors = embedder.encode([row.text for row in rows])
one = clustering.Clustering("t", clustering.Policy(), embedder.name, embedder.dimension)
other = canonicalization.Canonicalization("t", canonicalization.Policy())
digest = hashlib.sha256()
prompts = [(prompt_of(number, row.text), NOT_MODERATED) for number, row in enumerate(rows, 1)]
for arrival in arrivals(prompts, vectors):
    for step in one.add(arrival):
        digest.update(step.model_dump_json().encode())
        digest.update(repr(other.apply(step)).encode())
for row in (*one.dirty(), *other.dirty()):
    digest.update(repr(row).encode())
print(is_compiled(), digest.hexdigest())
"""


def told_by(program: str, *arguments: object, plain: str = "", sources: Path = SOURCES) -> list[str]:
    """Return the words that a process prints which runs a program on these sources."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, PLAIN: plain, "PYTHONPATH": str(sources)}
    ran = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.split()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return where machine code of these sources lies, in an environment of the test's own."""
    folder = tmp_path / folder_of_code(fingerprint()).relative_to(sys.prefix)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("plain", ["", "0"])
def test_a_room_is_looked_for_in_its_machine_code_first(tmp_path: Path, code: Path, plain: str) -> None:
    assert told_by(WHERE, tmp_path, plain=plain) == [str(code / ROOM), "True"]


@pytest.mark.usefixtures("code")
def test_the_sources_run_when_they_are_asked_for(tmp_path: Path) -> None:
    assert told_by(WHERE, tmp_path, plain="1") == [str(SOURCES / ROOM), "False"]


def test_the_sources_run_where_nothing_was_compiled(tmp_path: Path) -> None:
    assert told_by(WHERE, tmp_path) == [str(SOURCES / ROOM), "False"]


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("edited", "compiled"),
    [
        ("streams/prompts/canonicalization/slots.py", False),
        ("streams/prompts/clustering/compiled/sets.py", False),
        ("schemas/prompts.py", False),
        ("streams/prompts/clustering/agent.py", True),
    ],
)
def test_an_edited_source_is_run_itself(tmp_path: Path, edited: str, *, compiled: bool) -> None:
    for package in ("streams", "schemas"):
        shutil.copytree(SOURCES / package, tmp_path / "edited" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "edited" / edited).open("a") as source:
        source.write("# edited\n")
    assert told_by(WHERE, tmp_path, sources=tmp_path / "edited")[1] == str(compiled)


@pytest.mark.skipif(not folder_of_code(fingerprint()).is_dir(), reason="not compiled: python -m infra.compile")
def test_machine_code_answers_as_the_sources_do() -> None:
    ran_compiled, answers = told_by(ANSWERS)
    assert ran_compiled == "True"
    assert told_by(ANSWERS, plain="1") == ["False", answers]
