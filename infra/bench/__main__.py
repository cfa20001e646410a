"""How fast promptloom is on this machine, beside an idiomatic per-event Faust pipeline in the same run.

    python -m infra.bench [--prompts 20000] [--baseline-prompts 5000] [--report FILE]

Both do the same real work end to end, from the record in Kafka to the row in Postgres, on embedded services
in a temporary folder: see measure.py for the phases, pipelines.py for the two sides, load.py for the prompts.
Numbers move with the machine and its load; the ratios are what is claimed.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from infra.bench.measure import Plan, Result, measure
from infra.bench.pipelines import baseline, promptloom
from infra.embedded import start
from schemas.errors import PromptloomError
from streams.settings import Settings, load

WARM_UP_PROMPTS = 500
STEADY_PER_SECOND = 100.0
STEADY_SECONDS = 12


@click.command()
@click.option("--prompts", default=20_000, show_default=True, help="Prompts promptloom is given at full speed.")
@click.option("--baseline-prompts", default=5_000, show_default=True, help="The same for the baseline, at most.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures as JSON, too.")
def main(prompts: int, baseline_prompts: int, report: Path | None) -> None:
    """Measure both pipelines and print the ratio."""
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="promptloom-bench-") as name:
            ours, theirs = _measured(Path(name), prompts, min(prompts, baseline_prompts), console)
    except PromptloomError as error:
        raise click.ClickException(f"{error}\n{error.hint}" if error.hint else str(error)) from error
    _show(ours, theirs, console)
    if report:
        figures = {"cores": os.cpu_count(), "promptloom": asdict(ours), "baseline": asdict(theirs)}
        report.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")


def _measured(folder: Path, prompts: int, baseline_prompts: int, console: Console) -> tuple[Result, Result]:
    folder.chmod(0o755)  # the embedded database does not run as root
    settings = load()
    with start(folder / "data", settings.cache_dir) as services:
        settings = placed(settings, services.addresses.bootstrap_servers, services.addresses.postgres_dsn, folder)
        results = []
        for run, amount in ((promptloom, prompts), (baseline, baseline_prompts)):
            console.print(f"[dim]measuring {run.__name__}: {amount:,} prompts, then {STEADY_SECONDS} s steady[/dim]")
            plan = Plan(WARM_UP_PROMPTS, amount, STEADY_PER_SECOND, int(STEADY_PER_SECOND * STEADY_SECONDS))
            with run(settings, folder) as pipeline:
                results.append(measure(pipeline, settings, plan))
    return results[0], results[1]


def placed(settings: Settings, bootstrap_servers: str, postgres_dsn: str, folder: Path) -> Settings:
    """Return the settings with the addresses of this run's services."""
    return settings.model_copy(
        update={
            "data_dir": folder / "data",
            "kafka": settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers}),
            "postgres": settings.postgres.model_copy(update={"dsn": SecretStr(postgres_dsn)}),
        }
    )


def _show(ours: Result, theirs: Result, console: Console) -> None:
    table = Table("", ours.name, theirs.name, "ratio")
    for title, mine, other, more_is_better in (
        ("prompts/s to Postgres", ours.prompts_per_second, theirs.prompts_per_second, True),
        ("prompts per CPU second", ours.prompts_per_cpu_second, theirs.prompts_per_cpu_second, True),
        (f"p50 ms at {ours.steady_per_second:g}/s", ours.latency_ms_p50, theirs.latency_ms_p50, False),
        (f"p95 ms at {ours.steady_per_second:g}/s", ours.latency_ms_p95, theirs.latency_ms_p95, False),
    ):
        ratio = mine / other if more_is_better else other / mine
        table.add_row(title, f"{mine:,.0f}", f"{other:,.0f}", f"{ratio:.1f} x")
    console.print(table)
    for result in (ours, theirs):
        console.print(
            f"{result.name}: {result.prompts:,} prompts in {result.seconds:.1f} s, {result.cpu_seconds:.1f} s of CPU"
        )
    stages = sorted(ours.stage_seconds.items(), key=lambda item: -item[1])
    console.print("where promptloom's stages spend it: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in stages))


if __name__ == "__main__":
    main()
