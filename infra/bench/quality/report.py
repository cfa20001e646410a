"""Write what was measured as markdown: one table a set, then the variants, the orders, and the changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from infra.bench.quality.runs import Result
from infra.bench.quality.scoring import Scores

MEASURES = ("GA", "FGA", "1-1", "B3", "PA", "FTA", "PA strict", "FTA strict")
SECONDARY = ("round trip", "raw", "unclustered", "noise in families", "noise in own clusters", "clusters", "prompts/s")
ALARMS = ("false alarms", "controls", "false alarms in controls")
EVOLUTION = ("changes", "found", "named", "evolution F1", "kind named", *ALARMS)
KINDS = ("reworded", "slot_added", "slot_removed", "topic_drift", "replaced")
COUNTS = {"clusters", "prompts/s", "changes", "found", "named", *ALARMS}
SHARES = {"round trip", "raw", "unclustered", "noise in families", "noise in own clusters"}
NOT_MEASURED = "–"


@dataclass(slots=True)
class Shown:
    """One row of a set's table: a method with a setting, in the given order and in others."""

    label: str
    result: Result
    orders: list[Result] = field(default_factory=list)
    survival: Scores = field(default_factory=dict)


@dataclass(slots=True)
class SetReport:
    """All rows of one set."""

    name: str
    prompts: int
    families: int
    oneoffs: int
    rows: list[Shown] = field(default_factory=list)


def markdown(reports: Sequence[SetReport]) -> str:
    """Return the whole report."""
    logs = [report for report in reports if report.name.startswith("loghub/")]
    parts = [_of_set(report) for report in reports if report not in logs]
    if logs:
        parts.append(_of_logs(logs))
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(measure: str, value: float | None) -> str:
    """Return a figure as people read it."""
    if value is None:
        return NOT_MEASURED
    if measure in COUNTS:
        return f"{value:,.0f}"
    if measure in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}"


def _of_set(report: SetReport) -> str:
    title = f"## {report.name}: {report.prompts:,} prompts"
    parts = [title + (f" of {report.families} families, {report.oneoffs:,} one-off prompts" if report.families else "")]
    if report.families:
        parts += [table(["method", *names], _lines(report.rows, names)) for names in (MEASURES, SECONDARY)]
        variants = [name[3:] for name in report.rows[0].result.scores if name.startswith("GA/")]
        if variants:
            headings = ["GA / one-to-one of", *variants]
            parts.append(table(headings, ([row.label, *_variants(row.result.scores, variants)] for row in report.rows)))
        shuffled = [row for row in report.rows if row.orders]
        if shuffled:
            parts.append(_orders(shuffled))
    changed = [row for row in report.rows if "evolution F1" in row.result.scores]
    if changed:
        parts.append(table(["method", *EVOLUTION], _lines(changed, EVOLUTION)))
        parts.append(
            table(["true, found, named", *KINDS], ([row.label, *_kinds(row.result.scores)] for row in changed))
        )
    return "\n\n".join(parts)


def _lines(rows: Iterable[Shown], measures: Sequence[str]) -> Iterable[list[str]]:
    return ([row.label, *(shown(name, row.result.scores.get(name)) for name in measures)] for row in rows)


def _variants(scores: Scores, variants: Sequence[str]) -> list[str]:
    return [f"{scores['GA/' + name]:.3f} / {scores['1-1/' + name]:.3f}" for name in variants]


def _kinds(scores: Scores) -> list[str]:
    return [
        ", ".join(f"{scores.get(f'{kind} {what}', 0):.0f}" for what in ("true", "found", "named"))
        if f"{kind} true" in scores
        else NOT_MEASURED
        for kind in KINDS
    ]


def _orders(rows: Sequence[Shown]) -> str:
    """Return mean and worst of the shuffled orders, and what survives a slightly other stream."""
    measures = ("GA", "FGA", "1-1", "PA", "FTA", "PA strict", "FTA strict", "noise in own clusters")
    disturbances = list(rows[0].survival)
    lines = []
    for row in rows:
        cells = []
        for name in measures:
            values = [result.scores[name] for result in row.orders if name in result.scores]
            worst = max if name.startswith("noise") else min
            mean = sum(values) / len(values) if values else None
            cells.append(f"{shown(name, mean)} / {shown(name, worst(values))}" if values else NOT_MEASURED)
        lines.append([row.label, *cells, *(f"{row.survival[name]:.3f}" for name in disturbances)])
    return table([f"{len(rows[0].orders)} shuffles, mean / worst", *measures, *disturbances], lines)


def _of_logs(reports: Sequence[SetReport]) -> str:
    """Return the log lines of all systems as one table: they are few and alike."""
    systems = [report.name.partition("/")[2] for report in reports]
    lines = []
    for method in dict.fromkeys(row.result.method for report in reports for row in report.rows):
        rows = [[row.result for row in report.rows if row.result.method == method] for report in reports]
        usual, best = [found[0] for found in rows], [found[-1] for found in rows]
        if len({result.setting for result in usual}) == 1:
            lines.append(_log_line(f"{method}, {usual[0].setting}", usual))
        if usual != best or len({result.setting for result in best}) > 1:
            lines.append(_log_line(f"{method}, best setting of each system", best))
    title = f"## loghub: 2,000 log lines of each of {len(systems)} systems, not prompts (the log parsers' home ground)"
    return title + "\n\n" + table(["method", "GA, mean", "FGA", "PA", *(f"GA {system}" for system in systems)], lines)


def _log_line(label: str, results: Sequence[Result]) -> list[str]:
    means = [sum(result.scores.get(name, 0.0) for result in results) / len(results) for name in ("GA", "FGA", "PA")]
    return [label, *(f"{mean:.3f}" for mean in means), *(f"{result.scores['GA']:.2f}" for result in results)]
