"""Keep some processes alive until told to stop.

Rules
  * A process that ends by itself is started again after a pause, which doubles while it keeps ending soon, and is
    jittered, so that several do not hammer a broker in step. Others are not disturbed.
  * A process that says trying again cannot help (exit code 78, the settings are wrong) ends them all: they have
    the same settings.
  * SIGTERM and SIGINT are passed on. What has not ended after a grace time is killed; a crash is always safe.
  * A supervisor that dies itself leaves no orphans: each process holds the end of a pipe as its standard input,
    which the kernel closes then (`end_with_parent`).

What it is not: a container orchestrator. It watches no health endpoint and limits no memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from streams.engine.limits import EXIT_CODE_SETTINGS, STOP_SECONDS_MAX

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = STOP_SECONDS_MAX + 5.0  # a worker that hangs while it stops ends itself a little earlier
RESTART_SECONDS_MIN = 0.5
RESTART_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0  # one that lived so long starts with the shortest pause again
EXIT_CODE_KILLED = 1
EXIT_CODE_NOT_STARTED = 71  # EX_OSERR


@dataclass(frozen=True, slots=True)
class Command:
    """A process to keep alive. `environment` is added to that of this process."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


class Supervisor:
    """Runs commands, each as one process at a time."""

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        grace_s: float = GRACE_SECONDS,
        restart_s_min: float = RESTART_SECONDS_MIN,
        restart_s_max: float = RESTART_SECONDS_MAX,
    ) -> None:
        self._commands = commands
        self._grace_s = grace_s
        self._restart_s_min = restart_s_min
        self._restart_s_max = restart_s_max
        self._stopping = asyncio.Event()
        self._spawning = asyncio.Lock()  # the signal mask belongs to the whole thread
        self._exit_code = 0

    async def run(self) -> int:
        """Keep all alive until SIGTERM or SIGINT.

        Return 0 when all ended in good order then, 78 when the settings were wrong, 1 when one had to be killed
        or failed while it stopped.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        async with asyncio.TaskGroup() as group:
            for command in self._commands:
                group.create_task(self._keep_alive(command), name=command.name)
        return self._exit_code

    async def _keep_alive(self, command: Command) -> None:
        pause_s = self._restart_s_min
        while not self._stopping.is_set():
            started_at = time.monotonic()
            code = await self._run_once(command)
            if self._stopping.is_set():
                self._note_end(command, code)
            elif code == EXIT_CODE_SETTINGS:
                log.error("process cannot run with these settings: stop all", extra={"ended": command.name})
                self._exit_code = code
                self._stopping.set()
            else:
                if time.monotonic() - started_at >= STEADY_SECONDS:
                    pause_s = self._restart_s_min
                jittered_s = pause_s * random.uniform(0.5, 1.5)  # noqa: S311  no secret hangs on it
                log.error(
                    "process ended, starting it again",
                    extra={"ended": command.name, "exit_code": code, "restart_s": round(jittered_s, 2)},
                )
                await self._told_to_stop_within(jittered_s)
                pause_s = min(self._restart_s_max, 2 * pause_s)

    async def _run_once(self, command: Command) -> int:
        """Start a process, wait for its end and return its exit code."""
        try:
            async with self._spawning:
                process = await _spawn(command)
        except OSError as error:  # no memory or no process number left, for now: no reason to end the others
            log.warning("process cannot be started", extra={"failed": command.name, "error": repr(error)})
            return EXIT_CODE_NOT_STARTED
        log.info("process started", extra={"started": command.name, "pid": process.pid})
        return await self._until_ended(command, process)

    async def _until_ended(self, command: Command, process: Process) -> int:
        """Return the exit code; once told to stop, ask the process to end, and insist after the grace time."""
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            with suppress(ProcessLookupError):  # it has just ended by itself
                process.terminate()
            _, late = await asyncio.wait({ended}, timeout=self._grace_s)
            if late:
                log.error("process does not stop: killed", extra={"ended": command.name, "grace_s": self._grace_s})
                with suppress(ProcessLookupError):
                    process.kill()
        return await ended

    async def _told_to_stop_within(self, seconds: float) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()

    def _note_end(self, command: Command, code: int) -> None:
        log.info("process stopped", extra={"ended": command.name, "exit_code": code})
        if code:
            self._exit_code = self._exit_code or EXIT_CODE_KILLED


async def _spawn(command: Command) -> Process:
    # A signal that comes before the process can handle it must wait, not kill: it is blocked there until
    # `leave_on_signal` has run. A session of its own keeps a terminal's Ctrl-C for this process, which passes it on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return await asyncio.create_subprocess_exec(
            *command.arguments,
            stdin=PIPE,
            env={**os.environ, **command.environment},
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_on_signal() -> None:
    """Let SIGTERM and SIGINT end this process at once and in good order, because nothing has begun yet.

    For the seconds in which a process loads its libraries; its event loop handles the signals afterwards.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with_parent() -> None:
    """Ask this process to stop, as SIGTERM does, when whoever holds the other end of its standard input is gone."""

    def watch() -> None:
        # The descriptor itself: a thread that sits in a read of `sys.stdin` would block the end of the process.
        while os.read(stdin, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    stdin = sys.stdin.fileno()
    threading.Thread(target=watch, name="parent", daemon=True).start()
