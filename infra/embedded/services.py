"""Start and stop the embedded services of a data folder.

    start(...)   for as long as this process lives (tests, demo); use it as a context manager
    up(...)      until `down`, detached from this process
    down(...)    stop whatever runs in the folder

Whoever starts a service stops it: what is found running is used and left running.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from infra.embedded.kafka import Kafka
from infra.embedded.memory import Remembered, recall, remember
from infra.embedded.postgres import Postgres
from infra.embedded.processes import Child
from schemas.errors import EmbeddedServiceFailed
from schemas.limits import MIB

FREE_BYTES_MIN = 512 * MIB  # a new database is 40 MB, the broker preallocates indexes of every partition


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services answer; empty for one that does not run."""

    bootstrap_servers: str
    postgres_dsn: str


@dataclass(slots=True)
class Services:
    """The services of a data folder. Leaving the context stops those that `start` started."""

    kafka: Kafka | None = None
    postgres: Postgres | None = None
    started: list[str] = field(default_factory=list)

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            self.kafka.bootstrap_servers if self.kafka else "",
            self.postgres.dsn if self.postgres else "",
        )

    def stop(self) -> None:
        # Postgres first: a sink that still runs then stops reading, instead of losing its broker.
        if self.postgres and "postgres" in self.started:
            self.postgres.stop()
        if self.kafka and "kafka" in self.started:
            self.kafka.stop()

    def __enter__(self) -> Services:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data_dir: Path, cache_dir: Path, *, kafka: bool = True, postgres: bool = True) -> Services:
    """Start what does not run yet; it ends with this process at the latest, however that ends."""
    return _start(data_dir, cache_dir, kafka=kafka, postgres=postgres, detached=False)


def up(data_dir: Path, cache_dir: Path) -> Services:
    """Start what does not run yet, and leave it running."""
    return _start(data_dir, cache_dir, kafka=True, postgres=True, detached=True)


def down(data_dir: Path, cache_dir: Path) -> list[str]:
    """Stop what runs in the folder; return the names of what was stopped."""
    with _alone(data_dir):
        services = running(data_dir, cache_dir)
        services.started = [name for name in ("kafka", "postgres") if getattr(services, name) is not None]
        services.stop()
        return services.started


def running(data_dir: Path, cache_dir: Path) -> Services:
    """Return handles of what runs in the folder now."""
    services = Services()
    memory = recall(data_dir)
    if "kafka" in memory and memory["kafka"].running():
        services.kafka = Kafka(data_dir / "kafka", cache_dir)
        services.kafka.port, services.kafka.controller_port = memory["kafka"].ports
        services.kafka.child = Child(memory["kafka"].identity)
        services.kafka.detached = memory["kafka"].detached
    if "postgres" in memory and memory["postgres"].running():
        services.postgres = Postgres(data_dir / "postgres")
        (services.postgres.port,) = memory["postgres"].ports
        services.postgres.child = Child(memory["postgres"].identity)
        services.postgres.detached = memory["postgres"].detached
    return services


def remembered(data_dir: Path) -> Addresses | None:
    """Return the addresses of what runs in the folder, or None when nothing does."""
    services = running(data_dir, Path())
    return services.addresses if services.kafka or services.postgres else None


def _start(data_dir: Path, cache_dir: Path, *, kafka: bool, postgres: bool, detached: bool) -> Services:
    with _alone(data_dir):
        require_space(data_dir)
        services = running(data_dir, cache_dir)
        memory = recall(data_dir)
        try:
            if postgres and services.postgres is None:
                database = services.postgres = Postgres(data_dir / "postgres")
                (database.port,) = memory["postgres"].ports if "postgres" in memory else (0,)
                services.started.append("postgres")
                database.start(detached=detached)
                _remember(data_dir, "postgres", database.child, (database.port,), detached=detached)
            if kafka and services.kafka is None:
                broker = services.kafka = Kafka(data_dir / "kafka", cache_dir)
                broker.port, broker.controller_port = memory["kafka"].ports if "kafka" in memory else (0, 0)
                services.started.append("kafka")
                broker.start(detached=detached)
                _remember(data_dir, "kafka", broker.child, (broker.port, broker.controller_port), detached=detached)
        except BaseException:
            services.stop()
            raise
        return services


def _remember(data_dir: Path, name: str, child: Child | None, ports: tuple[int, ...], *, detached: bool) -> None:
    assert child is not None
    remember(data_dir, name, Remembered(child.identity.pid, child.identity.started, ports, detached))


def require_space(folder: Path, free_bytes_min: int = FREE_BYTES_MIN) -> None:
    """Raise EmbeddedServiceFailed when the disk of `folder` is nearly full."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < free_bytes_min:
        raise EmbeddedServiceFailed(
            f"{folder} has {free_bytes // MIB} MiB of free space; the embedded services need {free_bytes_min // MIB}",
            hint="free some, or set PROMPTLOOM_DATA_DIR to a folder on another disk",
        )


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Make the folder, and keep other starts and stops of its services out."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "services.lock").open("w")
    except OSError as error:
        raise EmbeddedServiceFailed(
            f"the data folder {data_dir} cannot be written: {error.strerror}",
            hint="set PROMPTLOOM_DATA_DIR to a folder of yours",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
