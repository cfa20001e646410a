"""Machine code of the rooms: used while it is of these very sources, and with the same answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.native import PLAIN, SOURCES, folder_of_code

WHERE = "import streams.prompts.clustering as room; print(room.__path__[0])"
ANSWERS = """
import hashlib

from infra.bench.quality.sets import load
from infra.bench.generated import NOT_MODERATED, prompt_of
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering.arrivals import arrivals
from connectors.embedders.wordllama import WordllamaEmbedder
from pathlib import Path

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
print(digest.hexdigest())
"""

needs_code = pytest.mark.skipif(not folder_of_code().is_dir(), reason="not compiled: python -m infra.compile")


def told_by(program: str, *, plain: bool, sources: Path = SOURCES) -> str:
    """Return what a process prints that runs a program on these sources."""
    environment = {**os.environ, PLAIN: "1" if plain else "", "PYTHONPATH": str(sources)}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=sources, env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@needs_code
def test_the_rooms_run_as_machine_code() -> None:
    assert told_by(WHERE, plain=False) == str(folder_of_code() / "streams/prompts/clustering")


@needs_code
def test_modules_are_found_in_the_folder_of_machine_code() -> None:
    where = told_by("import streams.prompts.clustering.policy as module; print(module.__file__)", plain=False)
    assert Path(where).parent == folder_of_code() / "streams/prompts/clustering"
    assert not where.endswith(".py")


def test_the_sources_run_when_they_are_asked_for() -> None:
    assert told_by(WHERE, plain=True) == str(SOURCES / "streams/prompts/clustering")


@pytest.mark.parametrize("changed", ["streams/prompts/canonicalization/slots.py", "schemas/prompts.py"])
def test_an_edited_source_is_run_itself(tmp_path: Path, changed: str) -> None:
    for package in ("streams", "schemas"):
        shutil.copytree(SOURCES / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / changed).open("a") as source:
        source.write("# edited\n")
    assert told_by(WHERE, plain=False, sources=tmp_path) == str(tmp_path / "streams/prompts/clustering")


@needs_code
def test_machine_code_answers_as_the_sources_do() -> None:
    assert told_by(ANSWERS, plain=False) == told_by(ANSWERS, plain=True)
