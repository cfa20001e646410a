"""A clock for the processes of a replay that a fault can set: libfaketime (Debian: apt install libfaketime).

The library stands before the C library in every process and adds what a file says to the time of day. The
monotonic clock goes on undisturbed, as it does on a real machine whose clock is set; the services keep the true
time. Where the library is not installed there is no such clock, and the faults that need it are skipped.
"""

from __future__ import annotations

from pathlib import Path

LIBRARY = "libfaketimeMT.so.1"
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
FILE_NAME = "clock"


def library() -> Path | None:
    """Return where the library is, None where it is not installed."""
    return next((path for folder in FOLDERS for path in sorted(Path(folder).glob(f"**/{LIBRARY}"))), None)


def environment(folder: Path) -> dict[str, str]:
    """Return what puts a process under the clock of a folder; it shows the true time until it is set."""
    found = library()
    if found is None:
        return {}
    set_off(folder, 0)
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(folder / FILE_NAME),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # as older versions call it
    }


def set_off(folder: Path, seconds: int) -> None:
    """Set the clock so far from the true time."""
    unfinished = folder / f"{FILE_NAME}.unfinished"
    unfinished.write_text(f"{seconds:+d}\n")
    unfinished.replace(folder / FILE_NAME)
