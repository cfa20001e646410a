"""The whole pipeline on this machine: workers and a sink as child processes.

What the demo, the bench and the end-to-end tests run. A child is the very command a person would
start (`promptloom worker`, `promptloom sink`; a bench may put a module of its own in the worker's
place), told by environment variables where the services are, and it ends with this process however
that ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from infra.embedded.processes import Child, alive, spawn
from schemas.errors import PromptloomError
from streams.settings import Settings

STOP_GRACE_S = 20.0
LOG_LINES_SHOWN = 15


class ChildEnded(PromptloomError):
    """A worker or sink ended although nobody asked it to."""


class LocalPipeline:
    """Workers and a sink beside this process; leaving the context stops them."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log_folder: Path,
        *,
        workers: int = 1,
        worker_module: str = "streams.cli",
    ) -> None:
        self._log_folder = log_folder
        self._environment = environment
        self._names = [f"worker-{number}" for number in range(1, workers + 1)] + ["sink"]
        self._modules = {"worker": worker_module, "sink": "streams.cli"}
        self.children: dict[str, Child] = {}

    def __enter__(self) -> LocalPipeline:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            self.start(name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # The sink last: what the workers commit while they stop may still be written.
        for name in list(self.children):
            self.stop(name)

    def start(self, name: str) -> None:
        """Start a worker or the sink by the name it has in `children`."""
        kind = name.partition("-")[0]
        command = [sys.executable, "-m", self._modules[kind], kind]
        self.children[name] = spawn(
            command,
            log=self.log(name),
            folder=Path.cwd(),
            detached=False,
            stop_signal=signal.SIGTERM,
            death_signal=signal.SIGKILL,
            grace_s=STOP_GRACE_S,
            environment=self._environment,
        )

    def kill(self, name: str) -> None:
        """End a child the hard way, as a crash would."""
        self.children.pop(name).stop(signal.SIGKILL, STOP_GRACE_S)

    def stop(self, name: str) -> None:
        """Let a child finish its unit and leave."""
        self.children.pop(name).stop(signal.SIGTERM, STOP_GRACE_S)

    def log(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"

    def check(self) -> None:
        """Raise ChildEnded, with the end of its log, when a child is gone."""
        for name, child in self.children.items():
            if not alive(child.identity):
                lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
                raise ChildEnded(
                    f"{name} ended unasked; its last words:\n" + "\n".join(lines), hint=str(self.log(name))
                )


def environment_of(settings: Settings, **overrides: str) -> Mapping[str, str]:
    """Return this process's environment with the addresses and folders of `settings`, and the overrides.

    A child reads the same config.yaml as this process; only what was found at run time is handed on.
    """
    return {
        **os.environ,
        "PROMPTLOOM_DATA_DIR": str(settings.data_dir),
        "PROMPTLOOM_CACHE_DIR": str(settings.cache_dir),
        "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "PROMPTLOOM_POSTGRES__DSN": settings.postgres.dsn.get_secret_value(),
        **overrides,
    }
