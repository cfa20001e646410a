"""`promptloom worker` as processes: waiting for a broker, kept alive by --processes, and stopped while loading."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from infra.embedded import ports
from infra.embedded.kafka import Kafka
from streams.engine.limits import EXIT_CODE_SETTINGS
from streams.settings import load

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

WITHIN_S = 90.0
PROCESSES = 2
GROUP = "promptloom"


class Workers:
    """A command with `promptloom worker`, its log, and its metrics ports."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.ports = ports.choose(PROCESSES, (), folder / "workers")
        self.log = folder / "workers.log"
        overrides = {
            "PROMPTLOOM_DATA_DIR": str(folder),
            "PROMPTLOOM_KAFKA__PARTITIONS": "2",
            "PROMPTLOOM_METRICS__WORKER_PORT": str(self.ports[0]),
            "PROMPTLOOM_ENGINE__SESSION_TIMEOUT_S": "6",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *arguments],
                env={**os.environ, **overrides, **environment},
                stderr=log,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def pids(self, name: str) -> list[int]:
        return [line["pid"] for line in self.lines() if line.get("started") == name]

    def answers(self, path: str) -> list[tuple[int, dict[str, Any]]]:
        """Return what each worker answers; a status of 0 where none does."""
        found = []
        for port in self.ports:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5.0)
                found.append((answer.status_code, answer.json()))
            except httpx.HTTPError:
                found.append((0, {}))
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        ends_at = time.monotonic() + WITHIN_S
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < ends_at, f"{what}: {self.answers('/ready')}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def until_ready(self) -> None:
        self.until(lambda: {status for status, _ in self.answers("/ready")} == {200}, "all workers are ready")

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(WITHIN_S)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """Return a broker of the test's own, not running; it comes back at the same address."""
    kafka = Kafka(tmp_path, load().cache_dir)
    kafka.start(detached=False)
    kafka.stop()
    yield kafka
    kafka.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    started: list[Workers] = []

    def start(*arguments: str, **environment: str) -> Workers:
        started.append(Workers(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for workers in started:
        workers.process.kill()
        workers.process.wait()


def members(bootstrap: str) -> set[str | None]:
    """Return the static names of the group's members."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    group = admin.describe_consumer_groups([GROUP])[GROUP].result()
    return {member.group_instance_id for member in group.members}


def test_workers_wait_for_the_broker_and_one_that_is_killed_comes_back(
    broker: Kafka, start: Callable[..., Workers]
) -> None:
    workers = start(
        "worker",
        f"--processes={PROCESSES}",
        PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS=broker.bootstrap_servers,
        PROMPTLOOM_ENGINE__GROUP_INSTANCE_ID="box",
    )
    workers.until(lambda: {status for status, _ in workers.answers("/ready")} == {503}, "both wait")
    for _, answer in workers.answers("/ready"):
        assert broker.bootstrap_servers in answer["reasons"]["engine"]
    assert [status for status, _ in workers.answers("/live")] == [200, 200]

    broker.start(detached=False)
    workers.until_ready()
    assert members(broker.bootstrap_servers) == {"box-1", "box-2"}

    os.kill(workers.pids("worker-1")[0], signal.SIGKILL)
    workers.until(lambda: len(workers.pids("worker-1")) == 2, "it is started again")
    workers.until_ready()
    assert len(workers.pids("worker-2")) == 1

    assert workers.end() == 0
    said = {(line.get("instance"), line["event"]) for line in workers.lines()}
    assert {("worker-1", "worker stopped"), ("worker-2", "worker stopped")} <= said


def test_workers_that_cannot_run_with_their_settings_stop_at_once(start: Callable[..., Workers]) -> None:
    # A category no moderator scores: found before anything is asked of a broker.
    workers = start(
        "worker",
        f"--processes={PROCESSES}",
        PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1",
        PROMPTLOOM_MODERATION__THRESHOLDS='{"misspelt": 0.5}',
    )
    assert workers.process.wait(WITHIN_S) == EXIT_CODE_SETTINGS
    assert "no such category: misspelt" in workers.log.read_text()


@pytest.mark.parametrize("command", ["worker", "sink"])
def test_a_signal_while_libraries_load_ends_a_process_in_good_order(
    start: Callable[..., Workers], command: str
) -> None:
    # Not measured: coverage minds the signal itself, from before the first line of ours.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    workers = start(command, PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1", **unmeasured)
    status = Path(f"/proc/{workers.process.pid}/status")

    def catches_sigterm() -> bool:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    workers.until(catches_sigterm, "it minds signals")
    assert workers.end() == 0
