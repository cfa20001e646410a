"""Start, recognise and stop the processes of embedded services.

A pid alone names nothing: after a reboot or a long week it belongs to somebody else. A process is
therefore remembered with the boot it belongs to and the tick it started at, and signalled only while
all three still agree.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import guard
from schemas.errors import EmbeddedServiceFailed

PROC = Path("/proc")
LOG_BYTES_MAX = 10 * 1024 * 1024  # a larger log is set aside at the next start; one older log is kept
POLL_INTERVAL_S = 0.05
KILL_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot."""

    pid: int
    started: str


@dataclass(slots=True)
class Child:
    """A running service. `watcher` is its guard, absent when it was detached or found running."""

    identity: Identity
    watcher: subprocess.Popen[bytes] | None = None

    def signal(self, number: int) -> None:
        """Send a signal if the process is still the same one."""
        if alive(self.identity):
            os.kill(self.identity.pid, number)

    def stop(self, number: int, grace_s: float) -> None:
        """Ask for an end with `number`, insist with SIGKILL after `grace_s`."""
        self.signal(number)
        if not wait_until(lambda: not alive(self.identity), grace_s):
            self.signal(signal.SIGKILL)
            if not wait_until(lambda: not alive(self.identity), KILL_WAIT_S):
                raise EmbeddedServiceFailed(f"process {self.identity.pid} does not end, even when killed")
        self.release()

    def release(self) -> None:
        """Collect the guard of a process that has ended."""
        if self.watcher is not None:
            if self.watcher.stdin is not None:
                self.watcher.stdin.close()
            self.watcher.wait(KILL_WAIT_S)
            self.watcher = None


def identify(pid: int) -> Identity | None:
    """Return who runs under this pid now, or None (a zombie is nobody)."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_tick = fields[0], fields[19]
    return None if state in "ZX" else Identity(pid, f"{boot}/{start_tick}")


def alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def find_by_arguments(*wanted: str) -> list[Identity]:
    """Return the processes whose command line holds every one of these arguments."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile, or is not ours to see
            continue
        identity = identify(int(entry.name)) if set(wanted) <= set(arguments) else None
        # A guard carries the command it watches inside one argument, so only the service itself matches.
        if identity is not None:
            found.append(identity)
    return found


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    folder: Path,
    detached: bool,
    stop_signal: int,
    death_signal: int,
    grace_s: float,
    user: tuple[int, int] | None = None,
) -> Child:
    """Start a service; unless detached it ends with this process, however that ends."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".old.log"))
    spec = {
        "mode": "detached" if detached else "guarded",
        "command": list(command),
        "log": str(log),
        "folder": str(folder),
        "parent": os.getpid(),
        "stop_signal": int(stop_signal),
        "death_signal": int(death_signal),
        "grace_s": grace_s,
        "user": user,
    }
    watcher = subprocess.Popen(
        _guarded(spec),
        stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    said = watcher.stdout.readline()
    watcher.stdout.close()
    identity = identify(int(said)) if said else None
    if identity is None:
        problem = watcher.stderr.read().decode(errors="replace") if not said else _tail(log)
        Child(Identity(0, ""), watcher).release()
        watcher.stderr.close()
        raise EmbeddedServiceFailed(f"starting {Path(command[0]).name} failed: {problem.strip()[-500:]}")
    watcher.stderr.close()
    if detached:
        watcher.wait()
        return Child(identity)
    return Child(identity, watcher)


def run(command: Sequence[str], *, user: tuple[int, int] | None, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, as another user if given."""
    spec = {"mode": "run", "command": list(command), "user": user}
    return subprocess.run(
        _guarded(spec), capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def _guarded(spec: dict[str, object]) -> list[str]:
    # -I and -S: neither the current folder nor site packages; the guard needs the standard library alone.
    return [sys.executable, "-I", "-S", str(Path(guard.__file__)), json.dumps(spec)]


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:] if log.exists() else ""
