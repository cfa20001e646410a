"""`infra/compose.yaml` starts what the code expects: same broker settings, versions, sizes and ports."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from infra.embedded.jars import kafka_version
from infra.embedded.kafka import HEAP_MIB, broker_properties
from infra.embedded.postgres import DATABASE, MAJOR_VERSION, SERVER_SETTINGS, USER
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.sink_metrics import SinkMetrics
from streams.settings import Settings

INFRA = Path(__file__).parents[2] / "infra"
SERVICES: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
# Differ by nature: a container has its own addresses and folders.
ADDRESSES = {
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "controller.quorum.voters",
    "log.dirs",
}


def published_port(service: str) -> int:
    (mapping,) = SERVICES[service]["ports"]
    host, port, inner = mapping.split(":")
    assert host == "127.0.0.1"
    assert port == inner
    return int(port)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of somebody who sourced infra/compose.env."""
    for line in (INFRA / "compose.env").read_text().splitlines():
        if not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    return Settings()


def test_every_service_is_there_with_a_fixed_version_and_on_this_machine_only() -> None:
    assert set(SERVICES) == {"kafka", "postgres", "qdrant", "valkey", "prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert re.search(r":v?\d", service["image"]), f"{name} has no version"
        assert published_port(name)


def test_the_broker_is_set_as_the_embedded_one() -> None:
    environment = SERVICES["kafka"]["environment"]
    expected = broker_properties(0, 0, Path("/data"))
    for name in expected.keys() - ADDRESSES:
        assert environment["KAFKA_" + name.upper().replace(".", "_")] == expected[name], name
    for name in ADDRESSES:
        assert "KAFKA_" + name.upper().replace(".", "_") in environment
    assert int(environment["KAFKA_MESSAGE_MAX_BYTES"]) > RECORD_BYTES_MAX
    assert f"-Xmx{HEAP_MIB}m" in environment["KAFKA_HEAP_OPTS"]
    assert SERVICES["kafka"]["image"].endswith(f":{kafka_version()}")


def test_every_listener_of_the_broker_has_a_protocol_and_an_address() -> None:
    environment = SERVICES["kafka"]["environment"]
    listeners = set(re.findall(r"(\w+)://", environment["KAFKA_LISTENERS"]))
    assert listeners == set(re.findall(r"(\w+):PLAINTEXT", environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"]))
    assert listeners - {"CONTROLLER"} == set(re.findall(r"(\w+)://", environment["KAFKA_ADVERTISED_LISTENERS"]))


def test_postgres_is_the_version_and_set_as_the_embedded_one() -> None:
    service = SERVICES["postgres"]
    assert service["image"] == f"postgres:{MAJOR_VERSION}"
    given = dict(argument.split("=") for argument in service["command"][2::2])
    # Where it listens is the container's business.
    assert given == {
        name: value
        for name, value in SERVER_SETTINGS.items()
        if name not in {"listen_addresses", "unix_socket_directories"}
    }


def test_the_addresses_in_compose_env_are_settings_and_reach_the_containers(settings: Settings) -> None:
    assert settings.kafka.bootstrap_servers == f"127.0.0.1:{published_port('kafka')}"
    assert (
        f"PLAINTEXT://{settings.kafka.bootstrap_servers}"
        in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    )
    dsn = urlsplit(settings.postgres.dsn.get_secret_value())
    environment = SERVICES["postgres"]["environment"]
    assert dsn.port == published_port("postgres")
    assert (dsn.username, dsn.path) == (USER, f"/{DATABASE}")
    assert (dsn.username, dsn.password, dsn.path[1:]) == (
        environment["POSTGRES_USER"],
        environment["POSTGRES_PASSWORD"],
        environment["POSTGRES_DB"],
    )
    assert urlsplit(settings.qdrant.url).port == published_port("qdrant")


def test_qdrant_is_of_the_client_s_minor_version() -> None:
    server = SERVICES["qdrant"]["image"].rpartition(":v")[2]
    assert server.split(".")[:2] == importlib.metadata.version("qdrant-client").split(".")[:2]


def test_prometheus_scrapes_the_ports_of_compose_env(settings: Settings) -> None:
    scrape = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    ports = {job["job_name"]: int(job["static_configs"][0]["targets"][0].rpartition(":")[2]) for job in scrape}
    assert ports == {
        "promptloom-worker": settings.metrics.worker_port,
        "promptloom-sink": settings.metrics.sink_port,
    }
    assert settings.metrics.host == "0.0.0.0"  # noqa: S104  a container reaches no loopback address of the host


def test_every_mounted_file_of_the_project_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (INFRA / source).exists(), volume


def test_the_dashboard_asks_only_for_metrics_that_exist() -> None:
    dashboard = json.loads((INFRA / "grafana" / "dashboards" / "promptloom.json").read_text())
    datasource = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {re.sub("_(bucket|total)$", "", name) for query in queries for name in re.findall(r"promptloom_\w+", query)}
    sources = "\n".join(path.read_text() for path in (INFRA.parent / "streams" / "prompts").rglob("*.py"))
    counted = {f"promptloom_{name}" for name in re.findall(r'\bcount\(\s*"(\w+)"', sources)}
    known = {family.name for family in SinkMetrics("promptloom").registry.collect()} | counted
    assert asked
    assert asked <= known, asked - known
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {datasource["datasources"][0]["uid"]}
