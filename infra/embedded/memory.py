"""What a data folder remembers of its services: which processes they are, and which ports they use.

`services.json` is written after a service answers and kept after it stops, so that the next start can
take the same ports. It holds no secret; the database's password has a file of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.embedded import processes
from infra.embedded.processes import Identity
from schemas.errors import EmbeddedServiceFailed

FILE_NAME = "services.json"


@dataclass(frozen=True, slots=True)
class Remembered:
    """One service as it last ran."""

    pid: int
    started: str
    ports: tuple[int, ...]
    detached: bool

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)

    def running(self) -> bool:
        return processes.alive(self.identity)


def recall(data_dir: Path) -> dict[str, Remembered]:
    """Return what is remembered, by service; an unreadable file is as good as none."""
    try:
        rows = json.loads((data_dir / FILE_NAME).read_text())
        return {name: Remembered(**{**row, "ports": tuple(row["ports"])}) for name, row in rows.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    except OSError as error:
        raise EmbeddedServiceFailed(
            f"reading {data_dir / FILE_NAME} failed: {error.strerror}",
            hint="does the data folder belong to another user? set PROMPTLOOM_DATA_DIR to one of yours",
        ) from error


def remember(data_dir: Path, name: str, service: Remembered) -> None:
    """Write the file whole, so that a reader never sees half of it."""
    rows = {key: asdict(row) for key, row in {**recall(data_dir), name: service}.items()}
    unfinished = data_dir / f"{FILE_NAME}.unfinished"
    unfinished.write_text(json.dumps(rows, indent=2) + "\n")
    unfinished.replace(data_dir / FILE_NAME)
