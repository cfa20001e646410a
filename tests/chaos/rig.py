"""Everything one replay needs, in a folder of its own: nothing of a user's is touched or met.

Settings reach the processes as a config file, secrets and addresses as variables; variables of the surrounding
shell that would change them are left out.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
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
from streams.engine.settings import EngineSettings
from streams.settings import KafkaSettings, ModerationSettings, PostgresSettings, QdrantSettings, Settings, load
from tests.chaos import clock, oracle
from tests.chaos.fleet import Fleet
from tests.chaos.gateway import Gateway
from tests.chaos.load import STRICT, Load
from tests.chaos.watch import Mark, Watch
from tests.fakes import FakeEngine

Say = Callable[[str], None]
PREFIX = "PROMPTLOOM_"
POISONABLE_WORKER = (sys.executable, "-m", "tests.chaos.poison")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a replay runs. What is not named here is promptloom's default."""

    workers: int = 2
    per_second: float = 40.0
    partitions: int = 8
    session_timeout_s: float = 8.0
    gateway: bool = False  # models are asked through a gateway instead of in the worker
    poison: bool = False  # workers stumble over certain prompts (poison.py)
    own_clock: bool = False  # processes run under a clock that faults can set (clock.py)
    sections: Mapping[str, Any] = field(default_factory=dict)  # of the settings


@dataclass(slots=True)
class Rig:
    """What faults act on."""

    folder: Path
    settings: Settings
    services: Services
    fleet: Fleet
    load: Load
    watch: Watch
    gateway: Gateway
    agents: FakeEngine  # the oracle's: knows stages and tables
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

    @property
    def changelogs(self) -> list[str]:
        return [f"{self.settings.engine.app_id}-{name}-changelog" for name in self.agents.tables]

    def mark(self) -> Mark:
        return Mark(time.monotonic(), dict(self.load.offsets))


@contextmanager
def running(folder: Path, conditions: Conditions, *, seed: int, say: Say) -> Iterator[Rig]:
    """Start services, processes, load and watch; end them all with the context."""
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway())
        services = stack.enter_context(start(folder / "data", load().cache_dir))
        settings = settings_of(folder, services, conditions, gateway)
        Admin(settings.kafka).create(TOPICS, partitions=conditions.partitions, replication_factor=1)
        dsn = settings.postgres.dsn.get_secret_value()
        migrations.upgrade(dsn)
        connection = confluent_configuration(settings.kafka)
        environment = environment_of(settings, folder) | (clock.environment(folder) if conditions.own_clock else {})
        fleet = stack.enter_context(Fleet(environment, folder / "logs", say))
        worker = POISONABLE_WORKER if conditions.poison else ()
        for number in range(1, conditions.workers + 1):
            fleet.start(f"worker-{number}", worker)
        fleet.start("sink-1")
        rig = Rig(
            folder=folder,
            settings=settings,
            services=services,
            fleet=fleet,
            load=Load(connection, conditions.partitions, seed, conditions.per_second),
            watch=stack.enter_context(Watch(connection, dsn, conditions.partitions)),
            gateway=gateway,
            agents=oracle.attached(settings, poison=conditions.poison),
            say=say,
            over=threading.Event(),
        )
        rig.load.start()
        yield rig


def settings_of(folder: Path, services: Services, conditions: Conditions, gateway: Gateway) -> Settings:
    """Return the defaults of promptloom with this replay's addresses; no file or variable has a say."""
    found = services.addresses
    return Settings.model_construct(
        **{
            "data_dir": folder / "data",
            "cache_dir": load().cache_dir,
            "kafka": KafkaSettings(bootstrap_servers=found.bootstrap_servers, partitions=conditions.partitions),
            "postgres": PostgresSettings(dsn=SecretStr(found.postgres_dsn)),
            "qdrant": QdrantSettings(enabled=False),
            "moderation": ModerationSettings(tenants={STRICT: {"all": 0.0}}),
            "engine": EngineSettings(app_id="promptloom", session_timeout_s=conditions.session_timeout_s),
            **(gateway.sections() if conditions.gateway else {}),
            **conditions.sections,
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
