"""Measure a running pipeline: how much it carries, what that costs, and how long a prompt takes.

Three phases, each waited for until its last row is in Postgres:

    warm-up      code is loaded, consumers are placed, connections are open; not measured
    throughput   prompts sent at full speed: first send to last row, and the processes' CPU time in between
    latency      a steady rate that leaves room: each prompt from its send to its row

Times are the clock of this machine on both ends (`written_at` is Postgres' clock_timestamp() of the same one),
so nothing depends on what a pipeline says about itself. A row is there when it can be read.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from infra.bench.load import Source, Submission, send
from infra.bench.pipelines import Running
from schemas.errors import PromptloomError
from streams.settings import Settings

STALLED_S = 90.0  # no new row for so long: it will not finish; a worker's start is well within
POLL_INTERVAL_S = 0.1
SCRAPE_TIMEOUT_S = 5.0
STAGE_SECONDS = "promptloom_stage_unit_seconds_sum"
COUNT = sql.SQL("SELECT count(*) FROM {}")
WRITTEN_AT = sql.SQL(
    "SELECT prompt_id, extract(epoch FROM written_at)::float8 FROM {} WHERE starts_with(prompt_id, %s)"
)


class BenchFailed(PromptloomError):
    """A pipeline did not bring its prompts to Postgres."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent in each phase."""

    warm_up_prompts: int
    prompts: int
    steady_per_second: float
    steady_prompts: int


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one pipeline. `stage_seconds` is the time by stage during the throughput phase."""

    name: str
    prompts: int
    seconds: float
    prompts_per_second: float
    cpu_seconds: float
    prompts_per_cpu_second: float
    steady_per_second: float
    latency_ms_p50: float
    latency_ms_p95: float
    stage_seconds: dict[str, float]


def measure(pipeline: Running, settings: Settings, plan: Plan) -> Result:
    """Run all phases; every pipeline is given the same prompts.

    Raises:
        BenchFailed: prompts stopped arriving before all were there.
    """
    source = Source()
    with psycopg.connect(settings.postgres.dsn.get_secret_value(), autocommit=True) as connection:
        rows = _Rows(connection, pipeline)

        def phase(submissions: Sequence[Submission], per_second: float = 0.0) -> dict[str, float]:
            before = rows.count_or_none() or 0
            sent_at = send(settings.kafka, pipeline.topic, submissions, per_second=per_second)
            rows.await_count(before + len(submissions))
            return sent_at

        phase(source.take("warm", plan.warm_up_prompts))
        cpu_before, stages_before = _cpu_seconds(pipeline.pids), _stage_seconds(pipeline)
        sent_at = phase(source.take("load", plan.prompts))
        cpu_seconds = _cpu_seconds(pipeline.pids) - cpu_before
        stages = {name: after - stages_before.get(name, 0.0) for name, after in _stage_seconds(pipeline).items()}
        seconds = max(rows.written_at("load").values()) - min(sent_at.values())

        sent_at = phase(source.take("steady", plan.steady_prompts), plan.steady_per_second)
        written_at = rows.written_at("steady")
        latencies_ms = [1000.0 * (written_at[prompt_id] - at) for prompt_id, at in sent_at.items()]
    return Result(
        name=pipeline.name,
        prompts=plan.prompts,
        seconds=seconds,
        prompts_per_second=plan.prompts / seconds,
        cpu_seconds=cpu_seconds,
        prompts_per_cpu_second=plan.prompts / cpu_seconds,
        steady_per_second=plan.steady_per_second,
        latency_ms_p50=float(np.percentile(latencies_ms, 50)),
        latency_ms_p95=float(np.percentile(latencies_ms, 95)),
        stage_seconds=stages,
    )


class _Rows:
    """What a pipeline has written."""

    def __init__(self, connection: psycopg.Connection, pipeline: Running) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._table = sql.Identifier(pipeline.table)

    def count_or_none(self) -> int | None:
        """Return the number of rows; None while the table is not there (a sink migrates when it starts)."""
        try:
            row = self._connection.execute(COUNT.format(self._table)).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
        return int(row[0]) if row else 0

    def await_count(self, wanted: int) -> None:
        """Wait until so many rows are there."""
        last, changed_at = self.count_or_none(), time.monotonic()
        while last is None or last < wanted:
            self._pipeline.check()
            if time.monotonic() - changed_at > STALLED_S:
                raise BenchFailed(
                    f"measuring {self._pipeline.name}: {last or 0} of {wanted} rows, and none more for {STALLED_S:g} s"
                )
            time.sleep(POLL_INTERVAL_S)
            count = self.count_or_none()
            if count != last:
                last, changed_at = count, time.monotonic()

    def written_at(self, prefix: str) -> dict[str, float]:
        """Return by id when each row of a phase was written, in seconds since 1970."""
        return dict(self._connection.execute(WRITTEN_AT.format(self._table), (prefix,)).fetchall())


def _cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time the processes have used, all their threads, in user and kernel mode."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stage_seconds(pipeline: Running) -> dict[str, float]:
    """Return the time spent in units by stage, of a pipeline that publishes it."""
    seconds: dict[str, float] = {}
    for port in pipeline.metrics_ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == STAGE_SECONDS:
                    seconds[sample.labels["stage"]] = sample.value
    return seconds
