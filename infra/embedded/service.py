"""What the embedded services have in common: a folder, ports, one process, and a way to ask whether it answers.

A start goes: end what an earlier life left behind, choose ports, prepare the folder, spawn, wait for the
first real answer, remember. A port can be taken by somebody else between choosing and binding it; then the
start is tried again with others.
"""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from infra.embedded import memory, ports, processes
from infra.embedded.processes import Child, Identity
from schemas.errors import EmbeddedServiceFailed

START_TIMEOUT_S = 120.0  # 2-4 s on an idle machine, 15 s beside a compiler
STOP_GRACE_S = 20.0  # 0.3 s on an idle machine
START_ATTEMPTS = 3
COMPLAINT_LINES_MAX = 8


class Service(ABC):
    """One embedded service of a data folder. Construction starts nothing."""

    name: str  # of its folder and of its row in services.json
    title: str
    ports_count: int
    stop_signal: signal.Signals
    death_signal: signal.Signals  # what the kernel sends when the guard is killed

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.folder = self.data_dir / self.name
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.ports: tuple[int, ...] = ()
        self.ports_lost: tuple[int, ...] = ()  # those of the last start, when somebody else took one of them
        self.detached = False
        self.child: Child | None = None
        row = memory.recall(self.data_dir).get(self.name)
        if row is not None:
            self.ports, self.detached = row.ports, row.detached
            self.child = Child(row.identity) if row.running() else None

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def running(self) -> bool:
        return self.child is not None and processes.alive(self.child.identity)

    def start(self, *, detached: bool) -> None:
        """Start the service and return when it answers.

        Args:
            detached: Let it run on after this process; otherwise it ends with this process, however that ends.

        Raises:
            EmbeddedServiceFailed: with what the service's log says.
        """
        if sys.platform != "linux":
            raise EmbeddedServiceFailed("the embedded services run on Linux", hint="start infra/compose.yaml instead")
        self.detached = detached
        try:
            self.stop()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for attempt in range(1, START_ATTEMPTS + 1):
                chosen = ports.choose(self.ports_count, self.ports, self.folder)
                if chosen != self.ports:
                    self.ports, self.ports_lost = chosen, self.ports
                if self._try_start():
                    return
                if attempt == START_ATTEMPTS or all(map(ports.is_free, self.ports)):
                    raise EmbeddedServiceFailed(
                        f"the embedded {self.title} did not start:\n{self.complaint()}",
                        hint=f"its log is {self.log}",
                    )
        except OSError as error:
            raise EmbeddedServiceFailed(
                f"starting the embedded {self.title} in {self.folder} failed: {error}",
                hint="the folder must be writable; set PROMPTLOOM_DATA_DIR to use another",
            ) from error

    def stop(self) -> None:
        """Stop the service in good order, and whatever else runs on its data."""
        if self.child is not None:
            self.child.stop(self.stop_signal, STOP_GRACE_S)
            self.child = None
        for orphan in self.orphans():
            Child(orphan).stop(self.stop_signal, STOP_GRACE_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, as an operator or a power cut would; after SIGKILL wait for the end."""
        if self.child is None:
            return
        self.child.signal(number)
        if number == signal.SIGKILL:
            self.child.wait(STOP_GRACE_S)

    def restart(self) -> None:
        """Start again, on the same ports, what was stopped or killed."""
        self.start(detached=self.detached)

    @property
    @abstractmethod
    def version(self) -> str:
        """Return the version that is started."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Return where the service answers, fit to be shown: without a password."""

    @abstractmethod
    def orphans(self) -> list[Identity]:
        """Return running servers of this folder, whether remembered or not."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the folder ready for a start on `self.ports`."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line of the server."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether this very server answers a real request."""

    @abstractmethod
    def complaint(self) -> str:
        """Return the end of what the server logged about a failed start."""

    def user(self) -> tuple[int, int] | None:
        """Return the user and group to run as, or None for those of this process."""
        return None

    def environment(self) -> dict[str, str]:
        """Return the environment of the server."""
        return dict(os.environ)

    def _try_start(self) -> bool:
        self.prepare()
        child = self.child = processes.spawn(
            self.command(),
            log=self.console,
            folder=self.folder,
            detached=self.detached,
            stop_signal=self.stop_signal,
            death_signal=self.death_signal,
            grace_s=STOP_GRACE_S,
            user=self.user(),
            environment=self.environment(),
        )
        processes.wait_until(lambda: self.answers() or not processes.alive(child.identity), START_TIMEOUT_S)
        # Another server may answer on the port while this one ends for want of it: ask in this order.
        if not (self.answers() and processes.alive(child.identity)):
            child.stop(signal.SIGKILL, STOP_GRACE_S)
            self.child = None
            return False
        row = memory.Remembered(child.identity.pid, child.identity.started, self.ports, self.detached)
        memory.remember(self.data_dir, self.name, row)
        return True

    @property
    def console(self) -> Path:
        """Return the file that takes standard output and error."""
        return self.log


def last_lines(log: Path, containing: tuple[str, ...] = ("",)) -> str:
    """Return the last lines of a log that hold any of the words."""
    if not log.exists():
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if any(word in line for word in containing)]
    return "\n".join(lines[-COMPLAINT_LINES_MAX:])
