"""Compile the Python of the rooms to machine code: `python -m infra.compile`, part of `make setup`.

It takes mypyc (of the extra `dev`), a C compiler, and the headers of Python. Where something is missing or fails, the
rooms run as plain Python with the same answers, and this says so. See streams/native.py for when the code is used.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
import time
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import click

from streams.native import SOURCES, compiled_sources, fingerprint, folder_of_code

LIBRARY = "promptloom_rooms"  # what all modules share
FOLDERS_KEPT = 4  # of sources that may come back, and of other checkouts that use this environment
SCRATCH = "compile-"
SCRATCH_SECONDS_MAX = 3_600  # older ones are of processes that were killed


class NotCompiled(Exception):
    """The rooms could not be compiled; the message says why."""


@click.command()
def main() -> None:
    """Compile the rooms, unless their code is there already."""
    sources = fingerprint()
    folder = folder_of_code(sources)
    if folder.is_dir():
        click.echo(f"the rooms are compiled: {folder}")
        return
    click.echo("compiling the rooms: a minute or two")
    started = time.monotonic()
    try:
        _check_machine()
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_old(folder.parent)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder.parent) as scratch:
            code = _compile(Path(scratch))
            if fingerprint() != sources:
                raise NotCompiled("a source was edited meanwhile: python -m infra.compile")
            _put(code, folder)
    except (NotCompiled, OSError) as failed:
        click.echo(f"the rooms stay plain Python, with the same answers but a fifth slower: {failed}", err=True)
        return
    click.echo(f"the rooms are compiled, in {time.monotonic() - started:.0f} s: {folder}")


def _check_machine() -> None:
    """Raise NotCompiled with what to install, if anything is missing."""
    missing = []
    if find_spec("mypyc") is None or find_spec("setuptools") is None:
        missing.append("promptloom's extra `dev`")
    if shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]) is None:
        missing.append("a C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("the headers of this Python (Debian: python3-dev)")
    if missing:
        raise NotCompiled(f"install {' and '.join(missing)}, then python -m infra.compile")


def _compile(scratch: Path) -> Path:
    """Compile the rooms; return the folder of their modules.

    Raises:
        NotCompiled: mypyc or the C compiler refused; what they said is in the message.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext
    from setuptools.errors import CompileError, LinkError

    os.chdir(SOURCES)  # where modules have the names they are imported by
    files = [str(file.relative_to(SOURCES)) for file in compiled_sources()]
    with redirect_stdout(StringIO()) as said:  # warnings, too, of what is slower than it could be
        try:
            extensions = mypycify(files, group_name=LIBRARY, target_dir=str(scratch / "c"), debug_level="0")
        except SystemExit as refused:
            raise NotCompiled(f"mypyc refused them:\n{said.getvalue()}") from refused
    command = build_ext(Distribution({"name": LIBRARY, "ext_modules": extensions}))
    command.build_temp, command.build_lib = str(scratch / "objects"), str(scratch / "code")
    command.ensure_finalized()
    try:
        command.run()
    except (CompileError, LinkError) as failed:
        raise NotCompiled(f"the C compiler failed: {failed}") from failed
    return scratch / "code"


def _put(code: Path, folder: Path) -> None:
    """Let the code stand in its folder, all at once; another process may have put it there first."""
    try:
        code.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _remove_old(parent: Path) -> None:
    """Remove code that was compiled before the newest few, and what killed processes left."""
    folders = sorted(parent.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    left = [folder for folder in folders if folder.name.startswith(SCRATCH)]
    code = [folder for folder in folders if not folder.name.startswith(SCRATCH)]
    stale = [folder for folder in left if time.time() - folder.stat().st_mtime > SCRATCH_SECONDS_MAX]
    for folder in (*code[FOLDERS_KEPT - 1 :], *stale):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
