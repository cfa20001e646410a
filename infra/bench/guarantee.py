"""What the guarantee costs: the same pipeline with transactions and at least once, and where a prompt's time goes.

    python -m infra.bench.guarantee [--prompts 5000] [--rounds 2] [--report FILE]

The runs differ in one thing only, the producer that the worker is given (at_least_once.py). It is handed in by this
bench; there is no such setting. Rounds alternate, because a machine gets slower and faster.

The budget says when a prompt's record reached each topic, measured by the broker's clock from its record in
`prompts`, at a steady rate: what lies between two topics is the commit of the one stage, the fetch and the pause
before the next, and its work.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from connectors.kafka.client import confluent_configuration
from infra.bench.__main__ import STEADY_PER_SECOND, STEADY_SECONDS, WARM_UP_PROMPTS, placed
from infra.bench.at_least_once import AtLeastOnceProducer
from infra.bench.measure import Plan, Result, measure
from infra.bench.pipelines import promptloom
from infra.embedded import start
from schemas import topics
from schemas.errors import PromptloomError, ServiceUnavailable
from schemas.prompts import CanonicalizedFrame, ClusteredFrame, EmbeddedFrame, ModeratedFrame
from streams.engine import frames, logs
from streams.settings import Settings, load

READ_TIMEOUT_S = 20.0
AT_LEAST_ONCE, EXACTLY_ONCE = "at least once", "exactly once"
# The workers' modules: this one runs them at least once, as a script with the argument `worker`.
MODULES = {AT_LEAST_ONCE: "infra.bench.guarantee", EXACTLY_ONCE: "streams.cli"}
MODELS: Mapping[str, type[Any]] = {
    topics.PROMPTS_MODERATED.name: ModeratedFrame,
    topics.PROMPTS_EMBEDDED.name: EmbeddedFrame,
    topics.PROMPTS_CLUSTERED.name: ClusteredFrame,
    topics.PROMPTS_CANONICALIZED.name: CanonicalizedFrame,
}


@click.group(invoke_without_command=True)
@click.option("--prompts", default=5_000, show_default=True, help="Prompts each run is given at full speed.")
@click.option("--rounds", default=2, show_default=True, help="Runs of each kind, in turn; medians are shown.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures as JSON, too.")
@click.pass_context
def main(context: click.Context, prompts: int, rounds: int, report: Path | None) -> None:
    """Measure both kinds and print the ratio."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    results: defaultdict[str, list[Result]] = defaultdict(list)
    budget: dict[str, float] = {}
    try:
        for number in range(rounds):
            # The second round the other way round: what comes first finds the machine cooler, or busier.
            for kind in (EXACTLY_ONCE, AT_LEAST_ONCE)[:: -1 if number % 2 else 1]:
                console.print(f"[dim]measuring {kind}: {prompts:,} prompts, then {STEADY_SECONDS} s steady[/dim]")
                result, found = _run(kind, prompts)
                results[kind].append(result)
                budget = found if kind == EXACTLY_ONCE else budget
    except PromptloomError as error:
        raise click.ClickException(f"{error}\n{error.hint}" if error.hint else str(error)) from error
    _show(results, budget, console)
    if report:
        figures = {"cores": os.cpu_count(), "budget_ms_p50": budget}
        runs = {kind: [asdict(result) for result in found] for kind, found in results.items()}
        report.write_bytes(orjson.dumps(figures | runs, option=orjson.OPT_INDENT_2) + b"\n")


@main.command(hidden=True)
def worker() -> None:
    """Run a worker that gives no guarantee; its settings come from the environment."""
    from streams.prompts.worker import run  # noqa: PLC0415  takes seconds, and only this side needs it

    settings = load()
    logs.configure(settings.logging.level, settings.logging.format)
    run(settings, new_producer=AtLeastOnceProducer)


def _run(kind: str, prompts: int) -> tuple[Result, dict[str, float]]:
    """Measure one run on services of its own."""
    with tempfile.TemporaryDirectory(prefix="promptloom-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded database does not run as root
        settings = load()
        with start(folder / "data", settings.cache_dir) as services:
            addresses = services.addresses
            settings = placed(settings, addresses.bootstrap_servers, addresses.postgres_dsn, folder)
            plan = Plan(WARM_UP_PROMPTS, prompts, STEADY_PER_SECOND, int(STEADY_PER_SECOND * STEADY_SECONDS))
            with promptloom(settings, folder, worker_module=MODULES[kind]) as pipeline:
                result = measure(pipeline, settings, plan)
            return result, arrivals(settings, "steady")


def arrivals(settings: Settings, prefix: str) -> dict[str, float]:
    """Return by topic how long after their record in `prompts` the prompts of a phase reached it (median, ms)."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for topic, model in MODELS.items():
        for appended_at_ms, value in _records(settings, topic):
            for prompt in _prompts(frames.decode(model, value)):
                if prompt.prompt_id.startswith(prefix):
                    found[topic].append(appended_at_ms - prompt.received_at_ms)
    return {topic: float(np.median(after_ms)) for topic, after_ms in found.items()}


def _prompts(frame: Any) -> Iterator[Any]:
    """Return the prompts a frame of any stage carries; a later link of a chain is no arrival."""
    for item in getattr(frame, "steps", None) or frame.prompts:
        carried = getattr(item, "assignment", item)
        if carried is not None and not getattr(carried, "sequence", 0):
            yield carried.prompt


def _records(settings: Settings, topic: str) -> Iterator[tuple[int, bytes]]:
    """Yield time and value of every committed record of a topic."""
    consumer = Consumer(
        {
            **confluent_configuration(settings.kafka),
            "group.id": "bench-budget",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = range(settings.kafka.partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    reading = set(partitions)
    try:
        while reading:
            message = consumer.poll(READ_TIMEOUT_S)
            if message is None:
                raise ServiceUnavailable(f"reading {topic}: nothing for {READ_TIMEOUT_S:g} s")
            if message.error() is not None:
                reading.discard(int(message.partition() or 0))
            else:
                yield message.timestamp()[1], message.value() or b""
    finally:
        consumer.close()


def _show(results: Mapping[str, list[Result]], budget: Mapping[str, float], console: Console) -> None:
    def middle(kind: str, field: str) -> float:
        return median(float(getattr(result, field)) for result in results[kind])

    table = Table("median of the rounds", EXACTLY_ONCE, AT_LEAST_ONCE, "ratio")
    rows: Iterable[tuple[str, str]] = (
        ("prompts/s to Postgres", "prompts_per_second"),
        ("prompts per CPU second", "prompts_per_cpu_second"),
        (f"p50 ms at {STEADY_PER_SECOND:g}/s", "latency_ms_p50"),
        (f"p95 ms at {STEADY_PER_SECOND:g}/s", "latency_ms_p95"),
    )
    for title, field in rows:
        exactly, at_least = middle(EXACTLY_ONCE, field), middle(AT_LEAST_ONCE, field)
        table.add_row(title, f"{exactly:,.0f}", f"{at_least:,.0f}", f"{exactly / at_least:.0%}")
    console.print(table)
    before = 0.0
    for topic, after_ms in budget.items():
        console.print(f"{topic:<24} {after_ms:6.0f} ms after prompts (+{after_ms - before:.0f})")
        before = after_ms
    console.print(f"{'Postgres':<24} {middle(EXACTLY_ONCE, 'latency_ms_p50'):6.0f} ms after it was sent")


if __name__ == "__main__":
    main()
