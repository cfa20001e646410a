"""Read prose and code that people wrote: docstrings and functions of Python and its scientific packages.

Nothing of it is copied into the repository; it follows the versions that are installed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = ("scipy", "sklearn", "numpy")
FILES_MAX = 200  # of each package: enough to draw from, read in seconds
DOCUMENT_CHARS_MIN = 250
SENTENCE_CHARS = (30, 220)
FUNCTION_CHARS = (120, 1_200)
MARKUP = re.compile(r"-{3}|={3}|>>>|:\w*:|^\s*[.*:-]| : |``", re.MULTILINE)  # of tables, examples, references


def documents_and_functions() -> tuple[list[str], list[str]]:
    """Return documents of plain paragraphs, and functions of the standard library, each once."""
    documents: dict[str, None] = {}
    functions: dict[str, None] = {}
    for path in _standard_library():
        source = path.read_text(encoding="utf-8", errors="replace")
        tree = ast.parse(source)
        documents |= dict.fromkeys(_documents(tree))
        functions |= dict.fromkeys(_functions(tree, source.splitlines()))
    for package in PACKAGES:
        for path in _modules(package):
            documents |= dict.fromkeys(_documents(ast.parse(path.read_text(encoding="utf-8", errors="replace"))))
    return list(documents), list(functions)


def sentences(document: str) -> list[str]:
    """Return the plain sentences of a document."""
    found = re.split(r"(?<=[.!?]) (?=[A-Z])", re.sub(r"\s+", " ", document))
    low, high = SENTENCE_CHARS
    return [line for line in found if low <= len(line) <= high and line[0].isupper() and line.endswith(".")]


def _documents(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            paragraphs = (ast.get_docstring(node) or "").split("\n\n")
            prose = "\n\n".join(text for text in paragraphs if not MARKUP.search(text) and sentences(text))
            if len(prose) >= DOCUMENT_CHARS_MIN:
                yield prose


def _functions(tree: ast.Module, lines: Sequence[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            function = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            if FUNCTION_CHARS[0] <= len(function) <= FUNCTION_CHARS[1]:
                yield function


def _standard_library() -> list[Path]:
    return sorted(Path(ast.__file__).parent.glob("*.py"))


def _modules(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the held-out set reads the documentation of {package}: install the dev extra")
    root = Path(spec.submodule_search_locations[0])
    return sorted(path for path in root.rglob("*.py") if "test" not in str(path.relative_to(root)))[:FILES_MAX]
