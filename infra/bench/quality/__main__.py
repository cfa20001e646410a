"""How well promptloom finds templates, beside other methods, on labelled prompts.

    python -m infra.bench.quality [--sets dataset,heldout] [--methods promptloom,Drain3] [--shuffles 3]

Writes `quality.md` and `quality.svg`. Every result is remembered in `build/quality/`: a run that was stopped goes on
where it was. Where a method has settings, the best one is shown, chosen on the very set it is shown for: that
flatters every method but promptloom, which runs with its defaults throughout.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from infra.bench.quality import picture, report
from infra.bench.quality.methods import METHODS, Method
from infra.bench.quality.runs import Runs
from infra.bench.quality.sensitivity import sensitivity_table
from infra.bench.quality.sets import DATA_DEFAULT, ROOT, SETS, LabelledSet, load

LOGS = "loghub/"


class Names(click.ParamType):
    """Some of these names, divided by commas."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(str(value).split(","))
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"no {', '.join(unknown)} here; there are {', '.join(self._known)}", param, ctx)
        return names


@click.command()
@click.option(
    "--data",
    default=DATA_DEFAULT,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with the sets that are not shipped.",
)
@click.option("--sets", "set_names", type=Names(SETS), default=",".join(SETS), show_default=True)
@click.option("--methods", type=Names(tuple(METHODS)), default=",".join(METHODS), show_default=True)
@click.option(
    "--shuffles",
    type=click.IntRange(0, 20),
    default=3,
    show_default=True,
    help="Other orders that promptloom is given.",
)
@click.option("--sensitivity", is_flag=True, help="Halve and double each number instead (an hour or two).")
@click.option("--out", default=ROOT / "build" / "quality", type=click.Path(file_okay=False, path_type=Path))
def main(
    data: Path, set_names: tuple[str, ...], methods: tuple[str, ...], shuffles: int, *, sensitivity: bool, out: Path
) -> None:
    """Measure and write the report."""
    console = Console(stderr=True)
    sets = []
    for name in set_names:
        found = load(name, data)
        sets += found
        if not found:
            console.print(f"[yellow]{name} is left out: its data is not in {data}[/yellow]")
    out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        console.print(f"[dim]{text}[/dim]")

    if sensitivity:
        (out / "sensitivity.md").write_text(sensitivity_table(sets, out / "trials", say), encoding="utf-8")
        console.print(f"written: {out / 'sensitivity.md'}")
        return
    runs = Runs(out / "results", say)
    reports = [_measured(labelled, [METHODS[name] for name in methods], shuffles, runs) for labelled in sets]
    (out / "quality.md").write_text(report.markdown(reports), encoding="utf-8")
    picture.draw(reports, out / "quality.svg")
    console.print(f"written: {out / 'quality.md'}, {out / 'quality.svg'}")


def _measured(labelled: LabelledSet, methods: list[Method], shuffles: int, runs: Runs) -> report.SetReport:
    families = {row.family for row in labelled.judged if row.family is not None}
    oneoffs = sum(row.family is None for row in labelled.judged)
    measured = report.SetReport(labelled.name, len(labelled.rows), len(families), oneoffs)
    for method in methods:
        if not families and not method.sees_change:
            continue
        best = runs.best(method, labelled)
        if method.default and method.default != best.setting:
            plain = runs.result(method, method.default, labelled)
            measured.rows.append(report.Shown(f"{method.name}, {method.default}", plain))
        name = method.name if method.online else f"{method.name} (offline)"
        label = name if len(method.settings) == 1 else f"{name}, {best.setting}"
        row = report.Shown(label, best)
        # Other orders are asked of promptloom alone: its answers are to be relied on, the others are a yardstick.
        if families and method.sees_change and shuffles and not labelled.name.startswith(LOGS):
            ways = [f"shuffle {number}" for number in range(1, shuffles + 1)]
            row.orders = [runs.result(method, best.setting, labelled, way) for way in ways]
            row.survival = runs.survival(method, best.setting, labelled)
        measured.rows.append(row)
    return measured


if __name__ == "__main__":
    main()
