"""Loops become machine code whatever became of the code that was kept."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

LOOPS = """
from streams.compiler import kernel


@kernel()
def _twice(number: int) -> int:
    return 2 * number


@kernel("i8(i8)")
def four_times(number: int) -> int:
    return _twice(_twice(number))
"""


def loops_in(folder: Path) -> Any:
    """Return a module of loops, compiled or loaded anew."""
    source = folder / "loops.py"
    if not source.exists():
        source.write_text(LOOPS)
    spec = spec_from_file_location("loops", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("__pycache__/*.nb?"))


def test_compiled_code_is_kept_beside_the_source(tmp_path: Path) -> None:
    assert loops_in(tmp_path).four_times(3) == 12
    written = [(path, path.stat().st_mtime_ns) for path in kept_in(tmp_path)]
    assert written
    assert loops_in(tmp_path).four_times(4) == 16
    assert written == [(path, path.stat().st_mtime_ns) for path in kept_in(tmp_path)]


@pytest.mark.parametrize("size", [0, 20])
@pytest.mark.parametrize("kind", ["nbi", "nbc", "nb?"])
def test_code_that_a_crash_cut_short_is_compiled_again(tmp_path: Path, kind: str, size: int) -> None:
    loops_in(tmp_path)
    for path in tmp_path.glob(f"__pycache__/*.{kind}"):
        path.write_bytes(path.read_bytes()[:size])
    assert loops_in(tmp_path).four_times(3) == 12
