"""No service outlives its starter unasked, and no pid is trusted for its number alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.embedded.memory import Remembered, recall, remember
from infra.embedded.processes import (
    Child,
    Identity,
    alive,
    find_by_arguments,
    find_by_folder,
    identify,
    run,
    spawn,
    wait_until,
)
from schemas.errors import EmbeddedServiceFailed

WAIT_S = 10.0
SLEEP = ("/bin/sleep", "300")

# Starts a service as the demo does, says its pid and its guard's, and waits to be killed.
STARTER = """
import os, sys, time
from pathlib import Path
from tests.unit.test_embedded_processes import start_sleep
child = start_sleep(Path(sys.argv[1]), detached=sys.argv[2] == "detached")
if sys.argv[2] == "forking" and os.fork() == 0:
    time.sleep(300)
print(child.identity.pid, child.watcher.pid if child.watcher else 0, flush=True)
time.sleep(300)
"""


def start_sleep(folder: Path, *, detached: bool, command: tuple[str, ...] = SLEEP) -> Child:
    return spawn(
        command,
        log=folder / "service.log",
        folder=folder,
        detached=detached,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGKILL,
        grace_s=1.0,
    )


def start_from_another_process(folder: Path, kind: str) -> tuple[subprocess.Popen[str], Identity, int]:
    command = [sys.executable, "-c", STARTER, str(folder), kind]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert starter.stdout is not None
    service_pid, guard_pid = map(int, starter.stdout.readline().split())
    starter.stdout.close()
    service = identify(service_pid)
    assert service is not None
    return starter, service, guard_pid


def ends(identity: Identity) -> bool:
    return wait_until(lambda: not alive(identity), WAIT_S)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = start_sleep(tmp_path, detached=False)
    yield child
    child.stop(signal.SIGKILL, WAIT_S)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_guarded_service_ends_with_its_starter_however_that_ends(tmp_path: Path, how: int) -> None:
    starter, service, _ = start_from_another_process(tmp_path, "guarded")
    starter.send_signal(how)
    starter.wait(WAIT_S)
    assert ends(service)


def test_a_guarded_service_ends_even_when_a_fork_keeps_the_pipe_open(tmp_path: Path) -> None:
    # The child of a fork holds a copy of the pipe's writing end, so its closing cannot be the only sign.
    starter, service, _ = start_from_another_process(tmp_path, "forking")
    starter.kill()
    starter.wait(WAIT_S)
    try:
        assert ends(service)
    finally:
        os.killpg(starter.pid, signal.SIGKILL)  # the fork, which outlives it


def test_a_guarded_service_ends_when_its_guard_is_killed(tmp_path: Path) -> None:
    starter, service, guard_pid = start_from_another_process(tmp_path, "guarded")
    os.kill(guard_pid, signal.SIGKILL)
    assert ends(service)
    starter.kill()
    starter.wait(WAIT_S)


def test_a_detached_service_outlives_its_starter(tmp_path: Path) -> None:
    starter, service, _ = start_from_another_process(tmp_path, "detached")
    starter.kill()
    starter.wait(WAIT_S)
    assert alive(service)
    Child(service).stop(signal.SIGTERM, WAIT_S)
    assert not alive(service)


def test_a_service_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    stubborn = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    child = start_sleep(tmp_path, detached=False, command=stubborn)
    assert wait_until(lambda: "ready" in (tmp_path / "service.log").read_text(), WAIT_S)
    child.stop(signal.SIGTERM, 0.2)
    assert not alive(child.identity)


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    child = start_sleep(tmp_path, detached=False, command=("/bin/sh", "-c", "echo out; echo problem >&2"))
    assert child.wait(WAIT_S)
    assert (tmp_path / "service.log").read_text() == "out\nproblem\n"


def test_a_command_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServiceFailed, match="no-such-program"):
        start_sleep(tmp_path, detached=False, command=("/no-such-program",))


def test_a_short_command_that_takes_too_long_is_an_error() -> None:
    with pytest.raises(EmbeddedServiceFailed, match="did not end within"):
        run(SLEEP, timeout_s=0.1)


def test_a_pid_of_another_boot_or_start_is_nobody_we_know(child: Child) -> None:
    boot, tick = child.identity.started.split("/")
    assert alive(child.identity)
    assert not alive(replace(child.identity, started=f"another-boot/{tick}"))
    assert not alive(replace(child.identity, started=f"{boot}/{int(tick) - 1}"))


def test_a_stranger_who_took_over_a_pid_is_never_signalled(tmp_path: Path) -> None:
    recorder = "trap 'echo asked to end' TERM; trap 'echo greeted' USR1; echo ready; while :; do sleep 0.05; done"
    child = start_sleep(tmp_path, detached=False, command=("/bin/sh", "-c", recorder))
    log = tmp_path / "service.log"
    try:
        assert wait_until(lambda: "ready" in log.read_text(), WAIT_S)
        Child(replace(child.identity, started="before the reboot")).signal(signal.SIGTERM)
        child.signal(signal.SIGUSR1)
        assert wait_until(lambda: "greeted" in log.read_text(), WAIT_S)
        assert "asked to end" not in log.read_text()
    finally:
        child.stop(signal.SIGKILL, WAIT_S)


def test_a_zombie_is_nobody() -> None:
    zombie = subprocess.Popen(["/bin/true"])
    try:
        assert wait_until(lambda: identify(zombie.pid) is None, WAIT_S)
    finally:
        zombie.wait()


def test_services_are_found_by_arguments_and_folder_but_guards_are_not(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    child = start_sleep(tmp_path, detached=False, command=("/usr/bin/tail", "-f", str(mark)))
    try:
        assert find_by_arguments("-f", str(mark)) == [child.identity]
        assert find_by_folder(tmp_path) == [child.identity]
    finally:
        child.stop(signal.SIGKILL, WAIT_S)


def test_what_is_remembered_is_recalled_and_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    row = Remembered(pid=1, started="boot/2", ports=(20_000, 20_001), detached=True)
    remember(tmp_path, "kafka", row)
    remember(tmp_path, "postgres", replace(row, ports=(20_002,)))
    assert recall(tmp_path) == {"kafka": row, "postgres": replace(row, ports=(20_002,))}
    for damaged in ("", "{", "[]", '{"kafka": 1}', '{"kafka": {"pid": 1}}', '{"kafka": {"ports": 3}}'):
        (tmp_path / "services.json").write_text(damaged)
        assert recall(tmp_path) == {}
