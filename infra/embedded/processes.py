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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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

    def wait(self, timeout_s: float) -> bool:
        """Return whether the process ended in time; collect its guard if so."""
        if not wait_until(lambda: not alive(self.identity), timeout_s):
            return False
        if self.watcher is not None:
            _collect(self.watcher)
            self.watcher = None
        return True

    def stop(self, number: int, grace_s: float) -> None:
        """Ask for an end with `number`, insist with SIGKILL after `grace_s`."""
        self.signal(number)
        if not self.wait(grace_s):
            self.signal(signal.SIGKILL)
            if not self.wait(KILL_WAIT_S):
                raise EmbeddedServiceFailed(f"process {self.identity.pid} does not end, even when killed")


def identify(pid: int) -> Identity | None:
    """Return who runs under this pid now, or None (a zombie is nobody)."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_tick = fields[0], fields[19]
    return None if state in "ZX" else Identity(pid, f"{_boot()}/{start_tick}")


def alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def find_by_arguments(*wanted: str) -> list[Identity]:
    """Return the processes whose command line holds every one of these arguments.

    A guard carries the command it watches inside one argument, so only the service itself matches.
    """
    return [identity for identity in everybody() if set(wanted) <= set(_arguments(identity.pid))]


def find_by_folder(folder: Path) -> list[Identity]:
    """Return the processes whose working directory is `folder`."""
    return [identity for identity in everybody() if _working_directory(identity.pid) == folder]


def everybody() -> list[Identity]:
    identities = (identify(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return [identity for identity in identities if identity is not None]


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
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a service; unless detached it ends with this process, however that ends.

    Args:
        log: Takes standard output and error, appended.
        folder: The working directory.
        stop_signal: Asks the service to end when this process is gone; `grace_s` later it is killed.
        death_signal: What the kernel sends when the guard itself is killed.
        user: User and group id to run as; root only.
        environment: Of the service; None means that of this process.

    Raises:
        EmbeddedServiceFailed: the command could not be run.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        set_aside(log)
    watcher = subprocess.Popen(
        _guarded(
            mode="detached" if detached else "guarded",
            command=list(command),
            log=str(log),
            folder=str(folder),
            parent=os.getpid(),
            stop_signal=int(stop_signal),
            death_signal=int(death_signal),
            grace_s=grace_s,
            user=user,
        ),
        stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    with _pipe(watcher.stdout) as output, _pipe(watcher.stderr) as errors:
        pid = output.readline()
        problem = b"" if pid else errors.read()
    if not pid:
        _collect(watcher)
        reason = problem.decode(errors="replace").strip().rpartition("\n")[2]
        raise EmbeddedServiceFailed(f"starting {command[0]} failed: {reason}")
    # A service that has ended already is nobody's pid; it is as good as one that ends a moment later.
    identity = identify(int(pid)) or Identity(int(pid), "ended")
    if detached:
        _collect(watcher)
        return Child(identity)
    return Child(identity, watcher)


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    user: tuple[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, as another user if given.

    Raises:
        EmbeddedServiceFailed: it took longer than `timeout_s`.
    """
    try:
        return subprocess.run(
            _guarded(mode="run", command=list(command), user=user),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedServiceFailed(f"{command[0]} did not end within {timeout_s:g} s") from None


def set_aside(log: Path) -> None:
    """Move a log out of the way, over the one moved before."""
    if log.exists():
        log.replace(log.with_suffix(".old.log"))


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def _guarded(**spec: object) -> list[str]:
    # -I and -S: neither the current folder nor site packages; the guard needs the standard library alone.
    return [sys.executable, "-I", "-S", str(Path(guard.__file__)), json.dumps(spec)]


def _collect(watcher: subprocess.Popen[bytes]) -> None:
    """Close the pipe to a guard and wait for its end."""
    if watcher.stdin is not None:
        watcher.stdin.close()
    watcher.wait(KILL_WAIT_S)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("asked for with PIPE")
    return stream


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:  # some sandboxes have none; the tick alone must do
        return ""


def _arguments(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it ended meanwhile, or is not ours to see
        return []


def _working_directory(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:  # as above
        return None
