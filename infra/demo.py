"""The demo: the whole pipeline on embedded services, fed with the prompts of Dataset/.

Two phases, because one figure cannot tell both: a burst of most files at full speed measures
throughput (its latencies would only measure the queue), then the rest at a steady rate measures
latency from the record in `prompts` to the committed row in Postgres.

The demo has a data folder of its own, made new each time: ids derive from the files, so a second
replay into the same state would rightly be counted as nothing but duplicates.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from connectors.dataset import PromptFile, find, shipped
from connectors.kafka.admin import Admin
from connectors.kafka.client import confluent_configuration
from connectors.kafka.counting import count_records
from connectors.postgres.reader import Reader, Stats
from infra import embedded, migrations
from infra.embedded.jars import kafka_version
from infra.local import LocalPipeline, environment_of
from schemas.errors import EmbeddedServiceFailed, PromptloomError
from schemas.topics import DEAD_LETTERS, TOPICS
from streams.prompts.replay import FileProgress, Options, replay
from streams.settings import Settings

FOLDER = "demo"  # in the data folder
STEADY_FILES = 2  # the last files, a few hundred prompts
STEADY_PER_S = 40.0
POLL_S = 0.5
STALLED_AFTER_S = 60.0  # without one more prompt in Postgres; a broker restart takes half of it


class DemoStalled(PromptloomError):
    """Prompts stopped arriving in Postgres before all were there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the demo is: prompts sent, and prompts that reached an end (of which Postgres or dead-letters know)."""

    sent: int
    arrived: int


@dataclass(slots=True)
class Outcome:
    """What a run of the demo measured; latencies in `stats` are those of the steady phase."""

    broker_version: str
    stats: Stats
    prompts_in: int = 0
    dead_lettered: int = 0
    bad_lines: int = 0
    throughput_prompts_per_s: float = 0.0


@contextmanager
def services(settings: Settings, on_step: Callable[[str], None]) -> Iterator[tuple[Settings, LocalPipeline]]:
    """Start fresh embedded services, a worker and a sink; yield the settings that reach them, and the processes."""
    folder = settings.data_dir / FOLDER
    if embedded.remembered(folder):
        raise EmbeddedServiceFailed(
            f"a demo is running already in {folder}", hint=f"stop it, or PROMPTLOOM_DATA_DIR={folder} promptloom down"
        )
    shutil.rmtree(folder, ignore_errors=True)
    on_step("starting Kafka and PostgreSQL (the first time this downloads the broker's jars)")
    with embedded.start(folder, settings.cache_dir) as started:
        # Given addresses are those of somebody's real services: the demo keeps off them.
        found = started.addresses
        located = settings.model_copy(
            update={
                "data_dir": folder,
                "kafka": settings.kafka.model_copy(update={"bootstrap_servers": found.bootstrap_servers}),
                "postgres": settings.postgres.model_copy(update={"dsn": SecretStr(found.postgres_dsn)}),
            }
        )
        on_step("creating topics and tables, starting a worker and a sink")
        Admin(located.kafka).create(
            TOPICS, partitions=located.kafka.partitions, replication_factor=located.kafka.replication_factor
        )
        migrations.upgrade(found.postgres_dsn)
        with LocalPipeline(environment_of(located), folder / "logs") as pipeline:
            yield located, pipeline


def run(
    settings: Settings,
    pipeline: LocalPipeline,
    on_step: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> Outcome:
    """Feed the shipped prompts through a running pipeline and wait until all have arrived."""
    files = find(shipped())
    outcome = Outcome(kafka_version(), asyncio.run(_stats(settings, None)))
    burst, steady = files[:-STEADY_FILES], files[-STEADY_FILES:]
    on_step("replaying Dataset/ at full speed")
    _send(settings, burst, Options(), outcome, on_progress)
    stats = _wait(settings, pipeline, outcome, on_progress)
    if stats.span_s:
        outcome.throughput_prompts_per_s = stats.prompts / stats.span_s
    on_step(f"replaying the rest at {STEADY_PER_S:.0f} prompts/s, to measure latency")
    since = datetime.now(UTC)
    _send(settings, steady, Options(rate=STEADY_PER_S), outcome, on_progress)
    outcome.stats = _wait(settings, pipeline, outcome, on_progress, since)
    return outcome


def _send(
    settings: Settings,
    files: Sequence[PromptFile],
    options: Options,
    outcome: Outcome,
    on_progress: Callable[[Progress], None],
) -> None:
    before = outcome.prompts_in
    sent: dict[Path, int] = {}

    def tell(progress: FileProgress) -> None:
        sent[progress.file.path] = progress.sent
        on_progress(Progress(before + sum(sent.values()), 0))

    folder = settings.data_dir / "replay"
    summary = replay(
        files,
        confluent_configuration(settings.kafka),
        folder=folder,
        report=folder / "bad-lines.jsonl",
        options=options,
        on_progress=tell,
    )
    if summary.interrupted:
        raise KeyboardInterrupt
    outcome.prompts_in += summary.sent
    outcome.bad_lines += summary.bad


def _wait(
    settings: Settings,
    pipeline: LocalPipeline,
    outcome: Outcome,
    on_progress: Callable[[Progress], None],
    since: datetime | None = None,
) -> Stats:
    """Return the numbers once every prompt sent has reached an end and nothing more is written.

    Raises:
        DemoStalled: nothing arrived for STALLED_AFTER_S.
        ChildEnded: a worker or the sink is gone.
    """
    last, moved_at = None, time.monotonic()
    while True:
        pipeline.check()
        stats = asyncio.run(_stats(settings, since))
        outcome.dead_lettered = count_records(settings.kafka, DEAD_LETTERS.name)
        arrived = stats.prompts + outcome.dead_lettered
        on_progress(Progress(outcome.prompts_in, arrived))
        # Twice the same: events and templates of the last prompts are written too.
        if arrived >= outcome.prompts_in and stats == last:
            return stats
        if stats != last:
            last, moved_at = stats, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_AFTER_S:
            raise DemoStalled(
                f"{arrived} of {outcome.prompts_in} prompts arrived, and no more for {STALLED_AFTER_S:.0f} s",
                hint=f"the logs are in {settings.data_dir / 'logs'}",
            )
        time.sleep(POLL_S)


async def _stats(settings: Settings, since: datetime | None) -> Stats:
    reader = Reader(settings.postgres.dsn.get_secret_value())
    try:
        return await (reader.stats(since=since) if since else reader.stats())
    finally:
        await reader.close()
