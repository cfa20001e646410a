"""The two pipelines that are measured: started, found and stopped the same way.

promptloom runs as a person would run it (one worker, one sink, default settings) but for Qdrant, which the
baseline has no counterpart of. The baseline is one Faust worker that also writes to Postgres. Both have the
same broker, database and number of partitions, and neither runs while the other is measured.
"""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from connectors.kafka.admin import Admin
from infra.embedded import ports
from infra.embedded.processes import Child, alive, spawn
from infra.local import ChildEnded, LocalPipeline, environment_of
from schemas.topics import DAY_MS, PROMPTS, TOPICS, Topic
from streams.settings import Settings

STOP_GRACE_S = 20.0
LOG_LINES_SHOWN = 15
BASELINE_TOPICS = ("prompts", "moderated", "embedded", "clustered", "canonicalized")
BASELINE_TABLES = ("centroids", "templates")
BASELINE_SCHEMA = """
CREATE TABLE baseline (
    prompt_id  text PRIMARY KEY,
    tenant     text NOT NULL,
    text       text NOT NULL,
    cluster_id text NOT NULL,
    template   text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A pipeline at work. Its table has the columns prompt_id and written_at; `check` raises when it has ended."""

    name: str
    topic: str
    table: str
    pids: tuple[int, ...]
    check: Callable[[], None]
    metrics_ports: tuple[int, ...] = ()


@contextmanager
def promptloom(settings: Settings, folder: Path, *, worker_module: str = "streams.cli") -> Iterator[Running]:
    """Run one worker and one sink; `worker_module` takes the worker's place."""
    Admin(settings.kafka).create(TOPICS, partitions=settings.kafka.partitions, replication_factor=1)
    metrics_ports = ports.choose(2, (), folder)
    environment = environment_of(
        settings,
        PROMPTLOOM_QDRANT__ENABLED="false",
        PROMPTLOOM_METRICS__WORKER_PORT=str(metrics_ports[0]),
        PROMPTLOOM_METRICS__SINK_PORT=str(metrics_ports[1]),
    )
    with LocalPipeline(environment, folder / "promptloom", worker_module=worker_module) as local:
        pids = tuple(child.identity.pid for child in local.children.values())
        yield Running("promptloom", PROMPTS.name, "prompts", pids, local.check, metrics_ports)


@contextmanager
def baseline(settings: Settings, folder: Path) -> Iterator[Running]:
    """Run the per-event Faust worker on topics and a table of its own."""
    prefix = f"baseline-{uuid.uuid4().hex[:8]}"
    Admin(settings.kafka).create(_topics(prefix), partitions=settings.kafka.partitions, replication_factor=1)
    dsn = settings.postgres.dsn.get_secret_value()
    with psycopg.connect(dsn) as connection:
        connection.execute(BASELINE_SCHEMA)
    log = folder / "baseline.log"
    child = spawn(
        [sys.executable, "-m", "faust", "-A", "infra.bench.baseline", "worker", "--without-web", "-l", "warn"],
        log=log,
        folder=Path.cwd(),
        detached=False,
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGKILL,
        grace_s=STOP_GRACE_S,
        environment=environment_of(
            settings,
            BASELINE_PREFIX=prefix,
            BASELINE_PARTITIONS=str(settings.kafka.partitions),
            BASELINE_BOOTSTRAP=settings.kafka.bootstrap_servers,
            BASELINE_DSN=dsn,
            BASELINE_DATADIR=str(folder / "baseline"),
        ),
    )
    try:
        yield Running("baseline", f"{prefix}-prompts", "baseline", (child.identity.pid,), lambda: _check(child, log))
    finally:
        child.stop(signal.SIGTERM, STOP_GRACE_S)


def _topics(prefix: str) -> list[Topic]:
    plain = [
        Topic(f"{prefix}-{name}", "tenant", "event: JSON", public=False, retention_ms=DAY_MS)
        for name in BASELINE_TOPICS
    ]
    changelogs = [
        Topic(f"{prefix}-{name}-changelog", "cluster_id", "state", public=False, retention_ms=-1, compacted=True)
        for name in BASELINE_TABLES
    ]
    return [*plain, *changelogs]


def _check(child: Child, log: Path) -> None:
    if not alive(child.identity):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        raise ChildEnded("the baseline ended unasked; its last words:\n" + "\n".join(lines), hint=str(log))
