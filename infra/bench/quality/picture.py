"""Draw the report as one picture: how much of each set every method sorts exactly right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from infra.bench.quality.report import SetReport

MEASURES = {
    "GA": "GA: prompts in exactly\ntheir template's group",
    "FGA": "FGA: groups that are\nexactly right (F1)",
    "FTA": "FTA: templates that are\nexactly right (F1)",
}
COLOURS = {
    "promptloom": "#0b6e4f",
    "Drain3": "#b0b7bf",
    "LCS": "#8d99a6",
    "embeddings": "#c9b79c",
    "HDBSCAN": "#a68a64",
}
INK = "#57606a"  # readable on white and on GitHub's dark page
LEFT_OUT = ("loghub/", "evolution")


def draw(reports: Sequence[SetReport], path: Path) -> None:
    """Write the picture as SVG: a panel a set, a group of bars a measure, a bar a method."""
    sets = [report for report in reports if report.rows and not report.name.startswith(LEFT_OUT)]
    if not sets:
        return
    settings: Any = {"svg.hashsalt": "promptloom", "svg.fonttype": "none", "font.size": 9, "text.color": INK}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(3.6 * len(sets) + 0.6, 3.3), layout="constrained")
        panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
        for panel, report in zip(panels, sets, strict=True):
            _draw_set(panel, report)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _draw_set(panel: mpl.axes.Axes, report: SetReport) -> None:
    best = {row.result.method: row for row in report.rows}  # of a method's rows the last is the best setting
    width = 0.8 / len(best)
    for place, (method, row) in enumerate(best.items()):
        values = [row.result.scores.get(measure) for measure in MEASURES]
        at = [group + place * width for group in range(len(MEASURES))]
        panel.bar(at, [value or 0.0 for value in values], width * 0.92, label=method, color=COLOURS[method])
        for x, value in zip(at, values, strict=True):
            text = "–" if value is None else f"{value:.2f}".removeprefix("0")
            panel.annotate(text, (x, value or 0.0), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
    panel.set_title(f"{report.name}\n{report.prompts:,} prompts, {report.families} templates", color=INK, fontsize=9)
    panel.set_xticks([group + 0.4 - width / 2 for group in range(len(MEASURES))], list(MEASURES.values()), fontsize=6.5)
    panel.set_ylim(0, 1.08)
    panel.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(INK)
    panel.set_yticks([])
