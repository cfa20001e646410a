"""Processes are kept alive, stopped in good order, and never outlive their supervisor.

The supervisor runs in a process of its own (this file as a script), because it handles that process's signals. Its
children are small scripts that write down what happens to them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.engine.limits import EXIT_CODE_SETTINGS
from streams.engine.supervisor import Command, Supervisor

ROOT = Path(__file__).parent.parent.parent
WITHIN_S = 20.0
# Says who it is, then does what the test asks for.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from streams.engine.supervisor import end_with_parent, leave_on_signal
diary = Path(os.environ["DIARY"])
def note(what):
    with diary.open("a") as file:
        file.write(f"{os.environ['NAME']} {what} {os.getpid()}\\n")
"""
OBEDIENT = CHILD + "leave_on_signal(); end_with_parent(); note('up'); time.sleep(60)"
DEAF = CHILD + "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('up'); time.sleep(60)"
FAILING = CHILD + "note('up'); sys.exit(3)"
MISCONFIGURED = CHILD + f"note('up'); sys.exit({EXIT_CODE_SETTINGS})"
# Loads something for long before it looks after signals: one that comes meanwhile waits.
SLOW_TO_LOAD = CHILD + "note('up'); time.sleep(1); leave_on_signal(); time.sleep(60)"


class Supervised:
    """A supervisor process; `diary` holds what its children wrote."""

    def __init__(self, diary: Path, *scripts: str) -> None:
        self._diary = diary
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.test_supervisor", str(diary), *scripts], cwd=ROOT
        )

    def notes(self) -> list[list[str]]:
        return [line.split() for line in self._diary.read_text().splitlines()] if self._diary.exists() else []

    def pids(self, name: str) -> list[int]:
        return [int(pid) for who, _, pid in self.notes() if who == name]

    def until(self, condition: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < ends_at, self.notes()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(*scripts: str) -> Supervised:
        started.append(Supervised(tmp_path / "diary", *scripts))
        return started[-1]

    yield start
    for supervised in started:
        supervised.process.kill()
        supervised.process.wait()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_all_end_in_good_order(
    start: Callable[..., Supervised], number: signal.Signals
) -> None:
    supervised = start(OBEDIENT, OBEDIENT)
    supervised.until(lambda: len(supervised.notes()) == 2)
    assert supervised.end(number) == 0
    assert all(gone(int(pid)) for _, _, pid in supervised.notes())


def test_one_that_is_killed_starts_again_and_the_others_are_left_alone(start: Callable[..., Supervised]) -> None:
    supervised = start(OBEDIENT, OBEDIENT)
    supervised.until(lambda: len(supervised.notes()) == 2)
    os.kill(supervised.pids("p1")[0], signal.SIGKILL)
    supervised.until(lambda: len(supervised.pids("p1")) == 2)
    assert supervised.end() == 0
    assert len(supervised.pids("p2")) == 1


def test_one_that_keeps_failing_is_started_again_and_again(start: Callable[..., Supervised]) -> None:
    supervised = start(FAILING, OBEDIENT)
    supervised.until(lambda: len(supervised.pids("p1")) >= 3)
    assert supervised.end() in (0, 1)  # 1 where the signal met a failing process


def test_one_that_cannot_be_started_is_tried_again_and_the_others_are_left_alone(
    start: Callable[..., Supervised], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    supervised = start(str(program), OBEDIENT)
    supervised.until(lambda: len(supervised.pids("p2")) == 1)
    time.sleep(0.2)  # several attempts, and time for the supervisor to end if it does
    written = tmp_path / "written"
    written.write_text(f'#!/bin/sh\necho "$NAME up $$" >> {tmp_path}/diary\nexec sleep 60\n')
    written.chmod(0o755)
    written.rename(program)
    supervised.until(lambda: len(supervised.pids("p1")) == 1)
    supervised.end()
    assert len(supervised.pids("p2")) == 1


def test_one_that_does_not_stop_is_killed_and_the_exit_code_tells(start: Callable[..., Supervised]) -> None:
    supervised = start(DEAF, OBEDIENT)
    supervised.until(lambda: len(supervised.notes()) == 2)
    assert supervised.end() == 1
    assert gone(supervised.pids("p1")[0])


def test_wrong_settings_stop_all(start: Callable[..., Supervised]) -> None:
    supervised = start(MISCONFIGURED, OBEDIENT)
    assert supervised.process.wait(WITHIN_S) == EXIT_CODE_SETTINGS
    assert len(supervised.pids("p1")) == 1
    assert all(gone(int(pid)) for _, _, pid in supervised.notes())


def test_a_signal_that_comes_while_a_process_loads_ends_it_in_good_order(start: Callable[..., Supervised]) -> None:
    supervised = start(SLOW_TO_LOAD)
    supervised.until(lambda: len(supervised.notes()) == 1)
    assert supervised.end() == 0


def test_no_process_outlives_a_supervisor_that_is_killed(start: Callable[..., Supervised]) -> None:
    supervised = start(OBEDIENT, OBEDIENT)
    supervised.until(lambda: len(supervised.notes()) == 2)
    supervised.process.kill()
    supervised.process.wait()
    supervised.until(lambda: all(gone(int(pid)) for _, _, pid in supervised.notes()))


if __name__ == "__main__":
    commands = [
        Command(
            f"p{number}",
            (script,) if script.startswith("/") else (sys.executable, "-c", script),
            {"NAME": f"p{number}", "DIARY": sys.argv[1]},
        )
        for number, script in enumerate(sys.argv[2:], start=1)
    ]
    supervisor = Supervisor(commands, grace_s=3.0, restart_s_min=0.05, restart_s_max=0.2)
    sys.exit(asyncio.run(supervisor.run()))
