"""Everything that must hold before a change lands: `make test` and CI run this and nothing else.

Steps run in the order of their cost, each shows what it does and how long it took, and the first
failure stops the run with its own output as the last thing on the screen.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from streams.native import PLAIN, ROOMS, is_compiled

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable

# Coverage the project promises: of the pure logic, and of everything.
LOGIC_PERCENT_MIN = 90
WHOLE_PERCENT_MIN = 80
LOGIC = "streams/prompts/*/*.py,streams/prompts/ingest.py,streams/prompts/chat.py,schemas/*.py"

TESTS = "tests"  # on the sources, because machine code tells nothing of its coverage
COMPILED_TESTS = "tests of the rooms, as machine code"

STEPS: tuple[tuple[str, list[str]], ...] = (
    ("lint", [PYTHON, "-m", "ruff", "check", "."]),
    ("format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
    ("types", [PYTHON, "-m", "mypy"]),
    (TESTS, [PYTHON, "-m", "coverage", "run", "-m", "pytest"]),
    ("collect coverage", [PYTHON, "-m", "coverage", "combine", "--quiet"]),
    (
        "coverage of the logic",
        [
            PYTHON,
            "-m",
            "coverage",
            "report",
            f"--include={LOGIC}",
            f"--fail-under={LOGIC_PERCENT_MIN}",
            "--skip-covered",
        ],
    ),
    (
        "coverage of the whole",
        [PYTHON, "-m", "coverage", "report", f"--fail-under={WHOLE_PERCENT_MIN}", "--format=total"],
    ),
    (
        COMPILED_TESTS,
        [
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "tests/unit",
            "tests/agents",
            "-k",
            " or ".join(Path(room).name for room in ROOMS),
        ],
    ),
)


def main() -> int:
    """Run all steps; return the exit code of the first that failed."""
    for leftover in ROOT.glob(".coverage*"):
        leftover.unlink()
    for name, command in STEPS:
        if name == COMPILED_TESTS and not is_compiled():
            sys.stdout.write(f"== {name}: left out, because they are plain Python here (python -m infra.compile)\n")
            continue
        started = time.monotonic()
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        environment = {**os.environ, PLAIN: "1" if name == TESTS else ""}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        sys.stdout.write(f"== {name}: {'failed' if code else 'ok'} in {time.monotonic() - started:.0f} s\n")
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
