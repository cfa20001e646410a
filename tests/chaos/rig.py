"""Everything one replay needs, in a folder of its own: nothing of a user's is touched or met.

Settings reach the processes as a config file, services by address; variables of the surrounding shell that
would change them are left out.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from infra import migrations
from infra.embedded import Services, start
from infra.embedded.kafka import Kafka
from infra.embedded.postgres import Postgres
from schemas.topics import TOPICS
from streams.engine.settings import (
    EngineSettings,
    KafkaSettings,
    ModerationSettings,
    PostgresSettings,
    QdrantSettings,
    Settings,
    load,
)
from tests.chaos.fleet import Fleet
from tests.chaos.load import STRICT, Load
from tests.chaos.watch import Mark, Watch

Say = Callable[[str], None]
PREFIX = "PROMPTLOOM_"


@dataclass(slots=True)
class Rig:
    """What faults act on. `chance` is the scenario's own source of randomness."""

    folder: Path
    settings: Settings
    services: Services
    fleet: Fleet
    load: Load
    watch: Watch
    chance: random.Random
    say: Say
    over: threading.Event  # set when a lane failed: the others need not go on

    @property
    def kafka(self) -> Kafka:
        assert self.services.kafka is not None
        return self.services.kafka

    @property
    def postgres(self) -> Postgres:
        assert self.services.postgres is not None
        return self.services.postgres

    @property
    def dsn(self) -> str:
        return self.settings.postgres.dsn.get_secret_value()

    @property
    def connection(self) -> dict[str, Any]:
        return confluent_configuration(self.settings.kafka)

    def mark(self) -> Mark:
        return Mark(time.monotonic(), dict(self.load.offsets))


@contextmanager
def running(
    folder: Path,
    *,
    seed: int,
    name: str,
    say: Say,
    workers: int,
    per_second: float,
    partitions: int,
    session_timeout_s: float,
    sections: Mapping[str, Any],
) -> Iterator[Rig]:
    """Start services, processes, load and watch; end them all with the context.

    `sections` are those of the settings that the scenario changes.
    """
    with ExitStack() as stack:
        services = stack.enter_context(start(folder / "data", load().cache_dir))
        settings = settings_of(folder, services, partitions, session_timeout_s, sections)
        Admin(settings.kafka).create(TOPICS, partitions=partitions, replication_factor=1)
        migrations.upgrade(settings.postgres.dsn.get_secret_value())
        connection = confluent_configuration(settings.kafka)
        fleet = stack.enter_context(Fleet(environment_of(settings, folder), folder / "logs", say))
        watch = stack.enter_context(Watch(connection, settings.postgres.dsn.get_secret_value(), partitions))
        sending = Load(connection, partitions, seed, per_second)
        chance = random.Random(f"{name} {seed}")
        rig = Rig(folder, settings, services, fleet, sending, watch, chance, say, threading.Event())
        for number in range(1, workers + 1):
            fleet.start(f"worker-{number}")
        fleet.start("sink-1")
        sending.start()
        yield rig


def settings_of(
    folder: Path, services: Services, partitions: int, session_timeout_s: float, sections: Mapping[str, Any]
) -> Settings:
    """Return the defaults of promptloom with this replay's addresses; no file or variable has a say."""
    found = services.addresses
    return Settings.model_construct(
        **{
            "data_dir": folder / "data",
            "cache_dir": load().cache_dir,
            "kafka": KafkaSettings(bootstrap_servers=found.bootstrap_servers, partitions=partitions),
            "postgres": PostgresSettings(dsn=SecretStr(found.postgres_dsn)),
            "qdrant": QdrantSettings(enabled=False),
            "moderation": ModerationSettings(tenants={STRICT: {"all": 0.0}}),
            "engine": EngineSettings(session_timeout_s=session_timeout_s),
            **sections,
        }
    )


def environment_of(settings: Settings, folder: Path) -> dict[str, str]:
    """Write the settings to a file; return the environment that makes a process use them."""
    config = folder / "config.yaml"
    untold = {"postgres": True, "portkey": True, "kafka": {"sasl_password"}, "qdrant": {"api_key"}}  # secrets
    written = settings.model_dump(mode="json", exclude=untold)
    config.write_text(yaml.safe_dump(written))
    foreign = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    portkey = settings.portkey
    return {
        **foreign,
        "PROMPTLOOM_CONFIG": str(config),
        "PROMPTLOOM_POSTGRES__DSN": settings.postgres.dsn.get_secret_value(),
        "PROMPTLOOM_PORTKEY__API_KEY": portkey.api_key.get_secret_value(),
        "PROMPTLOOM_PORTKEY__BASE_URL": portkey.base_url,
        "PROMPTLOOM_PORTKEY__TIMEOUT_S": str(portkey.timeout_s),
    }
