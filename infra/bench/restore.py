"""How long the state of 100,000 clusters takes to come back: from the changelogs, and from the store on disk.

    python -m infra.bench.restore [--clusters 100000] [--prompts 3000] [--bootstrap HOST:PORT]

The rows are real ones. The rooms' own logic works through prompts of the dataset, and what their tables hold then
is written for as many tenants as it takes to reach the number of clusters. A process each then does what a
restarted worker does, until its sessions are open:

    memory     everything is read from the changelogs
    filling    the same with an empty store, which is filled meanwhile
    store      the store has the committed position, and no changelog is read

A changelog holds each row once here, as after a compaction; between two of these it holds newer rows twice.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.dataset import shipped
from connectors.embedders.wordllama import WordllamaEmbedder
from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from infra.embedded import start
from schemas.ids import prompt_id_of_line
from schemas.prompts import Moderation, Prompt
from schemas.topics import PARTITIONS_DEFAULT, PROMPTS_CLUSTERED, PROMPTS_EMBEDDED, Topic
from streams.engine.engine import Engine
from streams.engine.partitioning import partition_of
from streams.engine.ports import Unit
from streams.engine.settings import EngineSettings
from streams.engine.tables import FORMAT_HEADER
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.canonicalization import rows as canonicalization_rows
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering import rows as clustering_rows
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.policy import Policy
from streams.settings import KafkaSettings, Settings, load

SOURCE_FILE = "support.jsonl"
TENANT = "sampled"
KINDS = {"memory": "memory", "filling": "rocksdb", "store": "rocksdb"}  # what is measured -> engine.store
CHILD_SECONDS_MAX = 900
POLL_SECONDS = 0.01

OWNERS = dict.fromkeys(clustering_rows.TABLES, PROMPTS_EMBEDDED.name) | dict.fromkeys(
    canonicalization_rows.TABLES, PROMPTS_CLUSTERED.name
)
FORMATS = dict.fromkeys(clustering_rows.TABLES, clustering_rows.FORMAT) | dict.fromkeys(
    canonicalization_rows.TABLES, canonicalization_rows.FORMAT
)

Row = tuple[str, str, bytes]  # table, key without its tenant, value


@click.group(invoke_without_command=True)
@click.option("--clusters", default=100_000, show_default=True, help="How many clusters are restored.")
@click.option("--prompts", default=3_000, show_default=True, help="Prompts of a tenant, from which the rows come.")
@click.option("--bootstrap", default="", help="A broker that runs already; empty = an embedded one for this run.")
@click.pass_context
def main(context: click.Context, clusters: int, prompts: int, bootstrap: str) -> None:
    """Fill changelogs, then measure restarts."""
    if context.invoked_subcommand is not None:
        return
    with tempfile.TemporaryDirectory(prefix="promptloom-restore-") as folder:
        if bootstrap:
            compare(bootstrap, clusters, prompts, Path(folder))
            return
        with start(Path(folder) / "data", load().cache_dir, postgres=False) as embedded:
            compare(embedded.addresses.bootstrap_servers, clusters, prompts, Path(folder))


def compare(bootstrap: str, clusters: int, prompts: int, folder: Path) -> None:
    rows = sampled(prompts)
    of_tenant = sum(table == clustering_rows.CENTROIDS and bool(key) for table, key, _ in rows)
    tenants = -(-clusters // of_tenant)
    run = f"restore-{uuid.uuid4().hex[:8]}"
    fill(bootstrap, run, rows, tenants)
    told(rows, of_tenant, tenants)
    for kind in KINDS:
        arguments = [sys.executable, "-m", "infra.bench.restore", "child", kind, bootstrap, run, str(folder)]
        done = subprocess.run(arguments, check=True, capture_output=True, timeout=CHILD_SECONDS_MAX)
        seconds, cpu_seconds, rss_bytes = orjson.loads(done.stdout.splitlines()[-1])
        count = tenants * len(rows)
        click.echo(
            f"{kind:>8}: {seconds:6.1f} s   {count / seconds:9,.0f} rows/s   {cpu_seconds:6.1f} s CPU   "
            f"{rss_bytes / 2**20:6,.0f} MiB"
        )
    size = sum(file.stat().st_size for file in (folder / "state").rglob("*") if file.is_file())
    click.echo(f"   store: {size / 2**20:,.0f} MiB on disk")


def sampled(prompts: int) -> list[Row]:
    """Return the rows that the stages hold of one tenant after some prompts of the dataset."""
    embedder = WordllamaEmbedder()
    cluster = clustering.Clustering(TENANT, Policy(), embedder.name, embedder.dimension)
    canonicalize = canonicalization.Canonicalization(TENANT, canonicalization.Policy())
    moderation = Moderation(allowed=True, scores={}, moderator="none", policy_version="1")
    for number, text in enumerate(texts(prompts)):
        prompt = Prompt(
            prompt_id=prompt_id_of_line(SOURCE_FILE, number + 1),
            tenant=TENANT,
            text=text,
            created_at_ms=1_700_000_000_000 + number,
            received_at_ms=1_700_000_000_000 + number,
            partition=0,
            offset=number,
        )
        (arrival,) = arrivals([(prompt, moderation)], embedder.encode([text]))
        for step in cluster.add(arrival):
            canonicalize.apply(step)
    written = [*cluster.dirty(), *canonicalize.dirty()]
    return [(table, key.removeprefix(TENANT), value) for table, key, value in written if value is not None]


def texts(count: int) -> Iterator[str]:
    """Return texts of the dataset; chats and what is no prompt are left out."""
    lines = (shipped() / SOURCE_FILE).read_bytes().splitlines()
    found = (orjson.loads(line).get("text") for line in lines if line.startswith(b"{"))
    return islice(filter(None, found), count)


def told(rows: list[Row], of_tenant: int, tenants: int) -> None:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for table, key, value in rows:
        counts[table] += tenants
        sizes[table] += tenants * (len(TENANT) + len(key) + len(value))
    total = sum(sizes.values())
    click.echo(
        f"{of_tenant * tenants:,} clusters of {tenants:,} tenants: {sum(counts.values()):,} rows, {total / 2**20:,.0f} "
        f"MiB, {total / (of_tenant * tenants) / 1024:.1f} KiB a cluster"
    )
    for table, count in sorted(counts.items()):
        click.echo(f"{table:>12}: {count:10,} rows {sizes[table] / 2**20:8,.0f} MiB {sizes[table] // count:6,} B a row")


def fill(bootstrap: str, run: str, rows: list[Row], tenants: int) -> None:
    """Write the changelogs, and commit a position of each source as if their rows had been made from it."""
    settings = settings_of(bootstrap, run, Path(), "memory")
    Admin(settings.kafka).create(
        [Topic(name, "none", "none", public=False, retention_ms=-1) for name in sources(run)]
        + engine_of(settings, run).changelog_topics(),
        partitions=PARTITIONS_DEFAULT,
        replication_factor=1,
    )
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.kbytes": 128 * 1024})
    headers: dict[str, list[tuple[str, str | bytes | None]]] = {
        table: [(FORMAT_HEADER, b"%d" % FORMATS[table])] for table in OWNERS
    }
    for number in range(tenants):
        tenant = f"tenant-{number}"
        partition = partition_of(tenant, PARTITIONS_DEFAULT)
        for table, key, value in rows:
            while True:
                try:
                    producer.produce(f"{run}-{table}-changelog", value, tenant + key, partition, headers=headers[table])
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    places = [
        TopicPartition(f"{run}-{name}", number, 1)
        for name in set(OWNERS.values())
        for number in range(PARTITIONS_DEFAULT)
    ]
    for place in places:
        producer.produce(place.topic, b"", partition=place.partition)
    producer.flush()
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": run})
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def sources(run: str) -> list[str]:
    return [f"{run}-{name}" for name in (*sorted(set(OWNERS.values())), "dead-letters")]


def settings_of(bootstrap: str, run: str, folder: Path, store: str) -> Settings:
    return Settings(
        data_dir=folder,
        kafka=KafkaSettings(bootstrap_servers=bootstrap, partitions=PARTITIONS_DEFAULT),
        engine=EngineSettings.model_validate({"app_id": run, "store": store}),
    )


def engine_of(settings: Settings, run: str) -> Engine:
    """Return an engine with the tables of both rooms, and nothing to do."""
    engine = Engine(
        settings.engine,
        aiokafka_configuration(settings.kafka),
        partitions=settings.kafka.partitions,
        state_folder=settings.data_dir / "state",
        dead_letters=f"{run}-dead-letters",
    )

    async def ignore(_: Unit) -> None: ...

    for table, owner in OWNERS.items():
        engine.table(table, owner=f"{run}-{owner}", row_format=FORMATS[table])
    for owner in sorted(set(OWNERS.values())):
        engine.stage(owner, f"{run}-{owner}", ignore)
    return engine


@main.command(hidden=True)
@click.argument("kind")
@click.argument("bootstrap")
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
def child(kind: str, bootstrap: str, run: str, folder: Path) -> None:
    """Open the sessions of one worker and say how long it took."""
    gc.freeze()  # as a worker's imports would be: not part of what is measured
    click.echo(orjson.dumps(asyncio.run(opened(settings_of(bootstrap, run, folder, KINDS[kind]), run))))


async def opened(settings: Settings, run: str) -> tuple[float, float, int]:
    engine = engine_of(settings, run)
    wall, cpu = time.perf_counter(), time.process_time()
    async with engine.running():
        while engine.reasons():  # noqa: ASYNC110  the engine has no event for what is waited for
            await asyncio.sleep(POLL_SECONDS)
        measured = time.perf_counter() - wall, time.process_time() - cpu
    return *measured, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
