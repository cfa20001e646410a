"""What the engine costs: events/s and CPU of a trivial one-table agent, beside stock Faust in the same run.

    python -m infra.bench.engine_cost [--events 50000] [--bootstrap HOST:PORT]

All count events by key in a table and send the count on, from the same preloaded topic. The engine does so
exactly once (transactions, read committed), and once more with a producer that makes no transactions; stock
Faust at least once, event by event, as its guide teaches.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import faust
import orjson
from confluent_kafka import Producer

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from infra.bench.at_least_once import AtLeastOnceProducer
from infra.embedded import start
from schemas.topics import Topic
from streams.engine.engine import Engine
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.stage import NewProducer
from streams.engine.ports import NullObserver, Unit
from streams.engine.settings import EngineSettings
from streams.settings import KafkaSettings, load

PARTITIONS = 4
KEYS = 500
CHILD_SECONDS_MAX = 300
SIDES = ("stock", "at-least-once", "engine")


@click.group(invoke_without_command=True)
@click.option("--events", default=50_000, show_default=True, help="How many events each side processes.")
@click.option("--bootstrap", default="", help="A broker that runs already; empty = an embedded one for this run.")
@click.pass_context
def main(context: click.Context, events: int, bootstrap: str) -> None:
    """Measure both sides and print the ratio."""
    if context.invoked_subcommand is not None:
        return
    if bootstrap:
        compare(bootstrap, events)
        return
    with tempfile.TemporaryDirectory() as folder, start(Path(folder), load().cache_dir, postgres=False) as embedded:
        compare(embedded.addresses.bootstrap_servers, events)


def compare(bootstrap: str, events: int) -> None:
    run = f"cost-{uuid.uuid4().hex[:8]}"
    preload(bootstrap, run, events)
    rates: dict[str, float] = {}
    for side in SIDES:
        arguments = [sys.executable, "-m", "infra.bench.engine_cost", side, bootstrap, run, str(events)]
        done = subprocess.run(arguments, check=True, capture_output=True, timeout=CHILD_SECONDS_MAX)
        seconds, cpu_seconds = orjson.loads(done.stdout.splitlines()[-1])
        rates[side] = events / seconds
        click.echo(f"{side:>13}: {rates[side]:9,.0f} events/s   {cpu_seconds / events * 1e6:6.1f} us CPU/event")
    click.echo(f"engine / stock: {rates['engine'] / rates['stock']:.1f}")
    click.echo(f"engine / at-least-once: {rates['engine'] / rates['at-least-once']:.0%}")


def preload(bootstrap: str, run: str, events: int) -> None:
    """Make every topic and fill the source."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap, partitions=PARTITIONS)
    plain = [
        Topic(f"{run}{suffix}", "key", "event", public=False, retention_ms=-1)
        for suffix in ("", *(f"-{side}-out" for side in SIDES), "-dead-letters")
    ]
    tables = [
        Topic(f"{run}-{side}-counts-changelog", "key", "count", public=False, retention_ms=-1, compacted=True)
        for side in SIDES
    ]
    Admin(kafka).create([*plain, *tables], partitions=PARTITIONS, replication_factor=1)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    for number in range(events):
        key = f"{number % KEYS}"
        producer.produce(run, orjson.dumps({"id": number, "key": key}), key=key, partition=number % KEYS % PARTITIONS)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush()


class Stopwatch:
    """Starts at the first event; reports and ends the process at the last."""

    def __init__(self, events: int) -> None:
        self._left = events
        self._started: tuple[float, float] | None = None

    def begin(self) -> None:
        if self._started is None:
            self._started = time.perf_counter(), time.process_time()

    def count(self, events: int, finish: Callable[[], None]) -> None:
        self._left -= events
        if self._left == 0 and self._started is not None:
            wall, cpu = self._started
            click.echo(orjson.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
            finish()


@main.command(hidden=True)
@click.argument("bootstrap")
@click.argument("run")
@click.argument("events", type=int)
def engine(bootstrap: str, run: str, events: int) -> None:
    """Count with the engine."""
    count_with_the_engine(bootstrap, run, events, "engine", TransactionalProducer)


@main.command(name="at-least-once", hidden=True)
@click.argument("bootstrap")
@click.argument("run")
@click.argument("events", type=int)
def at_least_once(bootstrap: str, run: str, events: int) -> None:
    """Count with the engine, without transactions."""
    count_with_the_engine(bootstrap, run, events, "at-least-once", AtLeastOnceProducer)


def count_with_the_engine(bootstrap: str, run: str, events: int, side: str, new_producer: NewProducer) -> None:
    stopwatch = Stopwatch(events)

    class Committed(NullObserver):
        """Events count when they are committed, not when they were handled."""

        def count(self, _name: str, amount: float, _labels: Mapping[str, str]) -> None:
            stopwatch.count(int(amount), measured.stop)

    measured = Engine(
        EngineSettings(app_id=f"{run}-{side}"),
        aiokafka_configuration(KafkaSettings(bootstrap_servers=bootstrap, partitions=PARTITIONS)),
        partitions=PARTITIONS,
        dead_letters=f"{run}-dead-letters",
        observer=Committed(),
        new_producer=new_producer,
    )
    counts = measured.table("counts", owner=run)

    async def number(unit: Unit) -> None:
        stopwatch.begin()
        for record in unit.records:
            entry = orjson.loads(record.value or b"")
            key = entry["key"]
            count = int(counts.get(key) or b"0") + 1
            counts.put(key, b"%d" % count)
            value = orjson.dumps({"id": entry["id"], "key": key, "count": count})
            unit.send(f"{run}-{side}-out", value, partition=unit.partition, key=record.key)
        unit.count("events", len(unit.records))

    measured.stage("counting", run, number)
    measured.run()


@main.command(hidden=True)
@click.argument("bootstrap")
@click.argument("run")
@click.argument("events", type=int)
def stock(bootstrap: str, run: str, events: int) -> None:
    """Count with Faust as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            f"{run}-stock",
            broker=f"kafka://{bootstrap}",
            store="memory://",
            datadir=folder,
            topic_partitions=PARTITIONS,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            stream_wait_empty=False,
            web_enabled=False,
        )
        app.boot_strategy.enable_web = False
        source = app.topic(run, value_serializer="json")
        target = app.topic(f"{run}-stock-out", value_serializer="json")
        counts = app.Table("counts", default=int, partitions=PARTITIONS)
        stopwatch = Stopwatch(events)

        @app.agent(source)
        async def number(stream: faust.StreamT[dict[str, object]]) -> None:
            async for entry in stream:
                stopwatch.begin()
                key = entry["key"]
                count = counts[key] + 1
                counts[key] = count
                target.send_soon(key=key, value={"id": entry["id"], "key": key, "count": count})
                # Leaving at once is what a measurement wants; the broker's copies do not matter any more.
                stopwatch.count(1, lambda: os._exit(0))

        asyncio.run(_work(app))


async def _work(app: faust.App) -> None:
    async with app:
        await app.wait_until_stopped()


if __name__ == "__main__":
    main()
