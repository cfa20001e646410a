"""Compile the Python of the rooms to machine code: `python -m infra.compile`, part of `make setup`.

It takes a C compiler and the headers of Python. Where they are missing, the rooms run as plain Python with the same
answers, and this says so. See streams/native.py for when the code is used.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import click
from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

from streams.native import SOURCES, compiled_sources, folder_of_code

LIBRARY = "promptloom_rooms"  # what all modules share


@click.command()
def main() -> None:
    """Compile the rooms, unless their code is there already."""
    folder = folder_of_code()
    if folder.is_dir():
        click.echo(f"the rooms are compiled: {folder}")
        return
    missing = _missing()
    if missing:
        _give_up(f"install {missing}, then python -m infra.compile")
        return
    click.echo("compiling the rooms: a minute or two")
    started = time.monotonic()
    try:
        _compile(folder)
    except (CompileError, LinkError) as failed:
        _give_up(f"the C compiler failed: {failed}")
        return
    click.echo(f"the rooms are compiled, in {time.monotonic() - started:.0f} s: {folder}")


def _give_up(why: str) -> None:
    click.echo(f"the rooms stay plain Python, with the same answers but a fifth slower: {why}", err=True)


def _missing() -> str:
    """Return what the machine lacks, as something to install."""
    lacking = []
    if shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None:
        lacking.append("a C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        lacking.append("the headers of this Python (Debian: python3-dev)")
    return " and ".join(lacking)


def _compile(folder: Path) -> None:
    """Compile the rooms into a folder, which is there when all of it is."""
    os.chdir(SOURCES)  # where modules have the names they are imported by
    files = [str(file.relative_to(SOURCES)) for file in compiled_sources()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compile-", dir=folder.parent) as scratch:
        with redirect_stdout(StringIO()) as said:  # warnings of what is slower than it could be
            try:
                extensions = mypycify(files, group_name=LIBRARY, target_dir=f"{scratch}/c", debug_level="0")
            except SystemExit:
                click.echo(said.getvalue(), file=sys.stderr)
                raise
        command = build_ext(Distribution({"name": LIBRARY, "ext_modules": extensions}))
        command.build_temp = f"{scratch}/objects"
        command.build_lib = f"{scratch}/code"
        command.ensure_finalized()
        command.run()
        for old in folder.parent.glob(f"{sys.implementation.cache_tag}-*"):
            shutil.rmtree(old)
        Path(command.build_lib).rename(folder)


if __name__ == "__main__":
    main()
