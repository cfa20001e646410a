"""The embedded services through a hard life: stopped, killed, rebooted, robbed of their ports and records."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra import embedded
from infra.embedded.kafka import Kafka
from infra.embedded.ports import HOST
from infra.embedded.postgres import Postgres
from infra.embedded.processes import alive, spawn, wait_until
from schemas.errors import EmbeddedServiceFailed
from streams.cli import promptloom
from streams.settings import load

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
TOPIC = "kept"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A space and a letter outside ASCII: home folders have them.
    folder = tmp_path_factory.mktemp("life") / "daten für promptloom"
    yield folder
    embedded.down(folder, load().cache_dir)


def run(data_dir: Path, *command: str) -> Result:
    return CliRunner().invoke(promptloom, command, env={"PROMPTLOOM_DATA_DIR": str(data_dir)}, catch_exceptions=False)


def up(data_dir: Path) -> tuple[Kafka, Postgres]:
    assert run(data_dir, "up").exit_code == 0
    kafka, postgres = embedded.all_of(data_dir, load().cache_dir)
    assert kafka.running
    assert postgres.running
    return kafka, postgres


def produce(bootstrap_servers: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(TOPIC, b"kept")
    assert producer.flush(WAIT_S) == 0


def topics(bootstrap_servers: str) -> set[str]:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    return set(admin.list_topics(timeout=WAIT_S).topics)


def rows(dsn: str) -> list[tuple[int]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT number FROM kept").fetchall()


def test_a_second_up_finds_the_first_and_data_and_ports_survive_a_stop(data_dir: Path) -> None:
    kafka, postgres = up(data_dir)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result()
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (42)")

    again = run(data_dir, "up")
    assert again.output.count("was running") == 2
    assert embedded.remembered(data_dir) == embedded.Addresses(kafka.bootstrap_servers, postgres.dsn)
    shown = run(data_dir, "status")
    assert shown.exit_code == 0
    assert kafka.bootstrap_servers in shown.output
    assert postgres.dsn not in shown.output
    assert run(data_dir, "status", "--dsn").output.strip() == postgres.dsn

    assert run(data_dir, "down").output.count("stopped") == 2
    assert run(data_dir, "status").exit_code == 3
    assert embedded.remembered(data_dir) is None
    kafka_again, postgres_again = up(data_dir)
    assert (kafka_again.ports, postgres_again.dsn) == (kafka.ports, postgres.dsn)
    assert TOPIC in topics(kafka_again.bootstrap_servers)
    assert rows(postgres_again.dsn) == [(42,)]


def test_killed_services_come_back_even_when_their_pids_went_to_somebody_else(data_dir: Path, tmp_path: Path) -> None:
    kafka, postgres = up(data_dir)
    produce(kafka.bootstrap_servers)
    kafka.kill()
    postgres.kill()
    assert embedded.remembered(data_dir) is None
    # As after a reboot: the pid file names a process of the same user that lives, but is not PostgreSQL.
    stranger = spawn(
        ("/bin/sleep", "300"),
        log=tmp_path / "stranger.log",
        folder=tmp_path,
        detached=False,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGKILL,
        grace_s=1.0,
        user=postgres.user(),
    )
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(stranger.identity.pid), *pid_file.read_text().splitlines()[1:]]) + "\n")
    kafka_again, postgres_again = up(data_dir)
    assert alive(stranger.identity)
    stranger.stop(signal.SIGKILL, WAIT_S)
    assert (kafka_again.ports, postgres_again.ports) == (kafka.ports, postgres.ports)
    produce(kafka_again.bootstrap_servers)
    assert rows(postgres_again.dsn) == [(42,)]


def test_when_the_ports_are_taken_others_are_used_and_said(data_dir: Path) -> None:
    kafka, postgres = up(data_dir)
    run(data_dir, "down")
    with ExitStack() as others:
        for port in (kafka.port, postgres.port):
            other = others.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((HOST, port))
            other.listen()
        said = run(data_dir, "up").output
    assert f"port {kafka.port}, used before, is taken" in said
    assert f"port {postgres.port}, used before, is taken" in said
    kafka_moved, postgres_moved = embedded.all_of(data_dir, load().cache_dir)
    assert kafka_moved.port != kafka.port
    produce(kafka_moved.bootstrap_servers)  # which works only if the advertised address moved too
    assert rows(postgres_moved.dsn) == [(42,)]


def test_services_nobody_remembers_are_stopped_before_others_start_on_their_data(data_dir: Path) -> None:
    forgotten = up(data_dir)
    (data_dir / "services.json").unlink()
    for before, after in zip(forgotten, up(data_dir), strict=True):
        assert before.child is not None
        assert not alive(before.child.identity)
        assert after.running


def test_two_starts_at_once_start_one_broker(data_dir: Path) -> None:
    run(data_dir, "down")
    command = [sys.executable, "-m", "streams.cli", "up"]
    environment = {**os.environ, "PROMPTLOOM_DATA_DIR": str(data_dir)}
    starts = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [start.communicate(timeout=120)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert sorted(output.count("(started)") for output in outputs) == [0, 2]
    assert len(embedded.all_of(data_dir, load().cache_dir)[0].orphans()) == 1


def test_library_use_leaves_running_what_it_found_running(data_dir: Path) -> None:
    kafka, _ = up(data_dir)
    with embedded.start(data_dir, load().cache_dir) as services:
        assert services.addresses == embedded.remembered(data_dir)
    assert kafka.running


def test_a_broker_killed_and_restarted_in_library_use_keeps_its_port_and_is_remembered(tmp_path: Path) -> None:
    with embedded.start(tmp_path, load().cache_dir, postgres=False) as services:
        assert services.kafka is not None
        address = services.addresses.bootstrap_servers
        services.kafka.kill(signal.SIGKILL)
        assert not services.kafka.running
        services.kafka.restart()
        assert services.addresses.bootstrap_servers == address
        assert embedded.remembered(tmp_path) == embedded.Addresses(address, "")
        assert topics(address) is not None
    assert embedded.remembered(tmp_path) is None


def test_a_database_ends_with_the_process_that_started_it_and_its_data_recover(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from infra import embedded
from streams.settings import load
services = embedded.start(Path({str(tmp_path)!r}), load().cache_dir, kafka=False)
print(services.postgres.child.identity.pid, flush=True)
time.sleep(300)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline().strip()
    starter.stdout.close()
    postgres = Postgres(tmp_path)
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    starter.kill()
    starter.wait(WAIT_S)
    assert wait_until(lambda: not postgres.running, WAIT_S)
    with embedded.start(tmp_path, load().cache_dir, kafka=False) as services:
        assert rows(services.addresses.postgres_dsn) == [(7,)]


def test_a_service_that_does_not_start_says_what_its_log_says(tmp_path: Path) -> None:
    with embedded.start(tmp_path, load().cache_dir, kafka=False) as services:
        assert services.postgres is not None
        data = services.postgres.data
    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServiceFailed, match="incompatible with server") as caught:
        embedded.start(tmp_path, load().cache_dir, kafka=False)
    assert str(tmp_path) in caught.value.hint
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")
    with pytest.raises(EmbeddedServiceFailed, match="node id 7 doesn't match"):
        embedded.start(tmp_path, load().cache_dir, postgres=False)
