"""Start and stop the embedded services of a data folder.

    start(...)   for as long as this process lives (tests, demo); a context manager
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
from infra.embedded.postgres import Postgres
from infra.embedded.service import Service
from schemas.errors import EmbeddedServiceFailed
from schemas.limits import MIB

FREE_BYTES_MIN = 512 * MIB  # a new database is 40 MB; every partition preallocates 20 MB of index, sparsely


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services answer; empty for one that does not run."""

    bootstrap_servers: str
    postgres_dsn: str


@dataclass(slots=True)
class Services:
    """The running services of a data folder; None for one that does not run.

    Leaving the context stops those in `started`, which `start` fills.
    """

    kafka: Kafka | None = None
    postgres: Postgres | None = None
    started: list[Service] = field(default_factory=list)

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            self.kafka.bootstrap_servers if self.kafka else "",
            self.postgres.dsn if self.postgres else "",
        )

    def stop(self) -> None:
        while self.started:
            self.started.pop().stop()

    def __enter__(self) -> Services:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data_dir: Path, cache_dir: Path, *, kafka: bool = True, postgres: bool = True) -> Services:
    """Start what does not run yet; it ends with this process at the latest, however that ends."""
    return _start(data_dir, cache_dir, kafka=kafka, postgres=postgres, detached=False)


def up(data_dir: Path, cache_dir: Path) -> Services:
    """Start what does not run yet, and leave it running (so do not use the result as a context manager)."""
    return _start(data_dir, cache_dir, kafka=True, postgres=True, detached=True)


def down(data_dir: Path, cache_dir: Path) -> list[Service]:
    """Stop what runs in the folder; return what was stopped."""
    with _alone(data_dir):
        services: tuple[Service, ...] = all_of(data_dir, cache_dir)
        found = [service for service in services if service.running or service.orphans()]
        for service in found:
            service.stop()
        return found


def all_of(data_dir: Path, cache_dir: Path) -> tuple[Kafka, Postgres]:
    """Return handles of the folder's services, running or not."""
    return Kafka(data_dir, cache_dir), Postgres(data_dir)


def remembered(data_dir: Path) -> Addresses | None:
    """Return the addresses of what runs in the folder, or None when nothing does."""
    kafka, postgres = all_of(data_dir, Path())
    running = Services(kafka if kafka.running else None, postgres if postgres.running else None)
    return running.addresses if running.kafka or running.postgres else None


def require_space(folder: Path, free_bytes_min: int = FREE_BYTES_MIN) -> None:
    """Raise EmbeddedServiceFailed when the disk of `folder` is nearly full."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < free_bytes_min:
        raise EmbeddedServiceFailed(
            f"{folder} has {free_bytes // MIB} MiB of free space; the embedded services need {free_bytes_min // MIB}",
            hint="free some, or set PROMPTLOOM_DATA_DIR to a folder on another disk",
        )


def _start(data_dir: Path, cache_dir: Path, *, kafka: bool, postgres: bool, detached: bool) -> Services:
    with _alone(data_dir):
        broker, database = all_of(data_dir, cache_dir)
        services = Services(broker if kafka else None, database if postgres else None)
        # The database first: it is up in a second, so what is wrong with the folder shows before the broker's download.
        wanted: list[Service] = [service for service in (services.postgres, services.kafka) if service is not None]
        if not all(service.running for service in wanted):
            require_space(data_dir)
        try:
            for service in wanted:
                if not service.running:
                    services.started.append(service)
                    service.start(detached=detached)
        except BaseException:
            services.stop()
            raise
        return services


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Make the folder, and keep other starts and stops of its services out."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # the broker's files hold prompts in clear
        lock = (data_dir / "services.lock").open("w")
    except OSError as error:
        raise EmbeddedServiceFailed(
            f"the data folder {data_dir} cannot be written: {error.strerror}",
            hint="set PROMPTLOOM_DATA_DIR to a folder of yours",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
