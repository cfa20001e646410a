"""The processes under test: started as a person would start them, signalled as an operator or a crash would.

A supervisor restarts what ends unasked, as the orchestrator of a real deployment does, and keeps a note of
each such end. A fault tells it first when an end is wanted.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.processes import Child, alive, spawn

RESTART_PAUSE_S = 1.0
SUPERVISION_INTERVAL_S = 0.2
STOP_GRACE_S = 25.0  # a worker gives itself 20 s
ROOT = Path(__file__).parent.parent.parent


@dataclass(slots=True)
class Member:
    """One process and how to start it again. `wanted` = it should be running."""

    command: Sequence[str]
    environment: Mapping[str, str]
    child: Child
    guard: subprocess.Popen[bytes] | None
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Exit:
    """An end nobody asked for."""

    name: str
    at_s: float
    code: int | None


@dataclass(slots=True)
class Fleet:
    """Processes by name (`worker-1`, `sink-2`); leaving the context ends them all."""

    environment: Mapping[str, str]
    log_folder: Path
    say: Callable[[str], None]
    members: dict[str, Member] = field(default_factory=dict)
    exits: list[Exit] = field(default_factory=list)
    starts: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _over: threading.Event = field(default_factory=threading.Event)
    _started_at: float = field(default_factory=time.monotonic)
    _supervisor: threading.Thread | None = None

    def __enter__(self) -> Fleet:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._supervisor is not None:
            self._supervisor.join()
        for name in self.members:
            self.kill(name)

    def start(self, name: str, command: Sequence[str] = (), **environment: str) -> None:
        """Start `promptloom worker` or `promptloom sink` by the first part of the name, or the command given."""
        command = command or [sys.executable, "-m", "streams.cli", name.partition("-")[0]]
        with self._lock:
            self._spawn(name, command, {**self.environment, **environment})

    def again(self, name: str) -> None:
        """Start once more what a fault has ended."""
        with self._lock:
            member = self.members[name]
            self._spawn(name, member.command, member.environment)

    def kill(self, name: str) -> None:
        """End it as a crash would; also when it is frozen."""
        self._end(name, signal.SIGKILL)

    def stop(self, name: str) -> int | None:
        """Ask it to end; return its exit code, None when it had to be killed."""
        return self._end(name, signal.SIGTERM)

    def rest(self) -> None:
        """Stop everybody, workers first."""
        for name in sorted(self.running("worker")) + sorted(self.running("sink")):
            self.stop(name)

    def freeze(self, name: str) -> None:
        self.members[name].child.signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.members[name].child.signal(signal.SIGCONT)

    def leave(self, name: str) -> Member:
        """Take it out of the supervisor's hands: how it ends is now the fault's business."""
        member = self.members[name]
        member.wanted = False
        return member

    def named(self, kind: str) -> list[str]:
        """Return the names of all members of a kind that ever ran."""
        return [name for name in self.members if name.startswith(kind)]

    def running(self, kind: str) -> list[str]:
        """Return the names of the wanted members of a kind (`worker`, `sink`) that are alive."""
        with self._lock:
            return [
                name
                for name, member in self.members.items()
                if name.startswith(kind) and member.wanted and alive(member.child.identity)
            ]

    def log(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        child = spawn(
            command,
            log=self.log(name),
            folder=ROOT,
            detached=False,
            stop_signal=signal.SIGTERM,
            death_signal=signal.SIGKILL,
            grace_s=STOP_GRACE_S,
            environment=environment,
        )
        self.members[name] = Member(command, environment, child, child.watcher)
        self.starts += 1

    def _end(self, name: str, number: signal.Signals) -> int | None:
        with self._lock:
            member = self.members[name]
            member.wanted = False
        member.child.signal(number)
        if not member.child.wait(STOP_GRACE_S):
            self.say(f"{name} did not end within {STOP_GRACE_S:g} s of {number.name}: killed")
            member.child.stop(signal.SIGKILL, STOP_GRACE_S)
            return None
        return member.guard.returncode if member.guard else None

    def _supervise(self) -> None:
        while not self._over.wait(SUPERVISION_INTERVAL_S):
            for name, member in list(self.members.items()):
                with self._lock:
                    if not member.wanted or alive(member.child.identity) or self.members[name] is not member:
                        continue
                    member.child.wait(0)
                    code = member.guard.returncode if member.guard else None
                    self.exits.append(Exit(name, round(time.monotonic() - self._started_at, 1), code))
                    self.say(f"{name} ended by itself with code {code}; it is started again")
                    time.sleep(RESTART_PAUSE_S)
                    self._spawn(name, member.command, member.environment)
