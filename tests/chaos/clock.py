"""A clock for the processes of a replay that a fault can set: `clock.c`, compiled where there is a C compiler.

The library stands before the C library in every process and adds so many seconds to the time of day. The
monotonic clock goes on undisturbed, as it does on a real machine whose clock is set; the services keep the true
time. Without a compiler there is no such clock, and the faults that need it are skipped. (libfaketime would
do, but it breaks Python's time.sleep when the monotonic clock is to be left alone.)
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY, OFFSET = "clock.so", "clock.offset"
COMPILE_SECONDS_MAX = 60


def available() -> bool:
    """Return whether the clock can be made on this machine."""
    return shutil.which("cc") is not None


def environment(folder: Path) -> dict[str, str]:
    """Return what puts a process under the clock of a folder; it shows the true time until it is set."""
    if not available():
        return {}
    library = folder / LIBRARY
    (folder / OFFSET).write_bytes(struct.pack("=q", 0))
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=COMPILE_SECONDS_MAX)
    return {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(folder / OFFSET)}


def set_off(folder: Path, seconds: int) -> None:
    """Set the clock so far from the true time, in every process at once."""
    with (folder / OFFSET).open("r+b") as file:
        file.write(struct.pack("=q", seconds))
