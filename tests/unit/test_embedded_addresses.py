"""Ports, folders and settings: what happens before anything is started."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.embedded import addresses, remembered, start
from infra.embedded.kafka import BATCH_BYTES_MAX, Kafka, broker_properties
from infra.embedded.ports import HOST, PORT_FIRST, PORT_LAST, choose, is_free
from infra.embedded.services import require_space
from schemas.errors import EmbeddedServiceFailed
from schemas.limits import RECORD_BYTES_MAX
from streams.cli import promptloom
from streams.settings import KafkaSettings, PostgresSettings, Settings


def test_a_folder_keeps_its_ports_and_another_folder_gets_others() -> None:
    first = choose(2, (), Path("/data/first"))
    assert first == choose(2, (), Path("/data/first"))
    assert set(first).isdisjoint(choose(2, (), Path("/data/second")))
    assert all(PORT_FIRST <= port <= PORT_LAST for port in first)
    assert choose(2, (30_001, 30_002), Path("/data/first")) == (30_001, 30_002)


def test_when_a_remembered_port_is_taken_all_of_them_change(tmp_path: Path) -> None:
    wanted = choose(2, (), tmp_path)
    with socket.socket() as other:
        other.bind((HOST, wanted[1]))
        other.listen()
        assert not is_free(wanted[1])
        assert set(choose(2, wanted, tmp_path)).isdisjoint(wanted)


def test_an_address_in_the_settings_is_left_alone(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap_servers="broker:9092"),
        postgres=PostgresSettings(dsn="postgresql://elsewhere/db"),
    )
    assert addresses.resolve(settings) is settings


@pytest.mark.parametrize(("asked", "variable"), [("kafka", "KAFKA__BOOTSTRAP_SERVERS"), ("postgres", "POSTGRES__DSN")])
def test_an_empty_address_with_nothing_running_says_what_to_do(tmp_path: Path, asked: str, variable: str) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(EmbeddedServiceFailed, match=variable) as caught:
        addresses.resolve(settings, kafka=asked == "kafka", postgres=asked == "postgres")
    assert "promptloom up" in caught.value.hint
    assert remembered(tmp_path) is None


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServiceFailed, match="MiB of free space") as caught:
        require_space(tmp_path, free_bytes_min=2**60)
    assert "PROMPTLOOM_DATA_DIR" in caught.value.hint


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServiceFailed, match="file/data cannot be written") as caught:
        start(tmp_path / "file" / "data", tmp_path)
    assert "PROMPTLOOM_DATA_DIR" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_a_read_only_data_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EmbeddedServiceFailed, match="cannot be written"):
        start(tmp_path / "data", tmp_path)


@pytest.mark.parametrize("character", [",", ":", "\\"])
def test_a_path_that_the_broker_would_take_for_two_is_refused(tmp_path: Path, character: str) -> None:
    broker = Kafka(tmp_path / f"a{character}b", tmp_path)
    with pytest.raises(EmbeddedServiceFailed, match="cannot live in"):
        broker.start(detached=False)


def test_the_broker_takes_the_largest_record_and_follows_its_ports() -> None:
    settings = broker_properties(20_001, 20_002, Path("/data"))
    assert int(settings["message.max.bytes"]) == int(settings["replica.fetch.max.bytes"]) == BATCH_BYTES_MAX
    assert BATCH_BYTES_MAX > RECORD_BYTES_MAX
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20001"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert settings["auto.create.topics.enable"] == "false"


def test_status_and_down_of_an_empty_folder_say_that_nothing_runs_and_where_the_settings_point(tmp_path: Path) -> None:
    environment = {"PROMPTLOOM_DATA_DIR": str(tmp_path), "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS": "elsewhere:9092"}
    shown = CliRunner().invoke(promptloom, ["status"], env=environment)
    assert shown.exit_code == 3
    assert shown.output.count("stopped") == 2
    assert "elsewhere:9092" in shown.output
    rows = json.loads(CliRunner().invoke(promptloom, ["status", "--json"], env=environment).output)
    assert [(row["service"], row["state"], row["pid"]) for row in rows] == [
        ("kafka", "stopped", None),
        ("postgres", "stopped", None),
    ]
    assert "nothing is running" in CliRunner().invoke(promptloom, ["down"], env=environment).output
    missing = CliRunner().invoke(promptloom, ["status", "--dsn"], env=environment)
    assert isinstance(missing.exception, EmbeddedServiceFailed)
