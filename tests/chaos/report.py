"""What a seed showed, for people and for programs, and what a repeated run need not do again.

    <folder>/seed-7/kills.json     the result of one scenario, with the fingerprint of the code it ran
    <folder>/seed-7/table.md       the faults of all scenarios; table.json holds the same
    <folder>/runs.jsonl            a line for each scenario that ever ran to its verdict, clean or not

A scenario that was clean is skipped when its seed runs again on the very same code. One that was not runs again.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.faults.state import RowsOfAnotherVersion
from tests.chaos.replay import Result

ROOT = Path(__file__).parent.parent.parent
CODE = ("schemas", "connectors", "streams", "infra", "tests/chaos", "tests/fakes.py", "tests/stub_gateway.py")
# Where the recovery of a fault has a target: seconds, with default settings.
TARGETS_S = {"worker killed (kill -9)": 15.0, "broker killed (kill -9)": 30.0}

# What workers must not recover from.
REFUSED = {RowsOfAnotherVersion().name}

Row = dict[str, Any]


def fingerprint() -> str:
    """Return a hash of all the code that a run depends on."""
    digest = hashlib.sha256()
    for part in CODE:
        path = ROOT / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def save(folder: Path, result: Result, code: str) -> Row:
    """Write a scenario's result down, and add it to the log of runs."""
    row = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "code": code, "clean": result.clean, **asdict(result)}
    (folder / f"{result.scenario}.json").write_text(json.dumps(row, indent=1, default=str) + "\n")
    with (folder.parent / "runs.jsonl").open("a") as log:
        log.write(json.dumps(row, default=str) + "\n")
    return row


def saved(folder: Path, scenario: str) -> Row | None:
    """Return what is written down of a scenario, whatever code it ran."""
    try:
        row: Row = json.loads((folder / f"{scenario}.json").read_text())
    except FileNotFoundError:
        return None
    return row


def write_table(folder: Path, rows: Sequence[Row]) -> str:
    """Write the table of faults as Markdown and as JSON; return the Markdown."""
    lines = list(faults(rows))
    text = markdown(lines, rows)
    (folder / "table.md").write_text(text)
    (folder / "table.json").write_text(json.dumps({"faults": lines, "scenarios": rows}, indent=1) + "\n")
    return text


def faults(rows: Iterable[Row]) -> Iterable[Row]:
    """Yield one line a fault: how often it happened, what it cost, how long recovery took.

    Losses are told by replay, not by fault: each line has those of the replays its fault happened in.
    """
    struck: dict[str, list[tuple[Row, Row]]] = {}
    for row in rows:
        for fault in row["faults"]:
            struck.setdefault(fault["name"], []).append((row, fault))
    for name, cases in struck.items():
        replays = {(row["seed"], row["scenario"]): row for row, _ in cases}.values()
        # While the next fault is on already, the seconds are of both.
        alone = [fault["recovery_s"] for _, fault in cases if not fault["overlapped"]]
        seconds = sorted(value for value in alone if value is not None)
        yield {
            "fault": name,
            "times": len(cases),
            **{kind: sum(total(row, kind) for row in replays) for kind in ("lost", "doubled", "different")},
            "median_s": round(statistics.median(seconds), 1) if seconds else None,
            "max_s": seconds[-1] if seconds else None,
            "overlapped_max_s": max(
                (fault["recovery_s"] or 0.0 for _, fault in cases if fault["overlapped"]), default=None
            ),
            "target_s": TARGETS_S.get(name),
            "skipped": next((fault["skipped"] for _, fault in cases if fault["skipped"]), ""),
            "not_recovered": sum(fault["recovery_s"] is None for _, fault in cases),
            "replays": sorted({row["scenario"] for row in replays}),
        }


def total(row: Mapping[str, Any], kind: str) -> int:
    return sum(finding[kind] for finding in row["findings"])


def markdown(lines: Iterable[Row], rows: Iterable[Row]) -> str:
    """Return the table for people, and under it what was not clean."""
    text = [
        "| fault | times | lost | doubled | different | recovery: median, most (target) |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        seconds = f"{line['overlapped_max_s']} s with the next fault"
        if line["median_s"] is not None:
            seconds = f"{line['median_s']:g} s, {line['max_s']:g} s"
        if line["skipped"]:
            seconds = f"skipped: {line['skipped']}"
        elif line["fault"] in REFUSED:
            seconds = "refused to start"
        target = f" ({line['target_s']:g} s)" if line["target_s"] else ""
        cells = [line["fault"], line["times"], line["lost"], line["doubled"], line["different"], seconds + target]
        text.append("| " + " | ".join(map(str, cells)) + " |")
    text += ["", "| replay | seed | prompts | process starts | ends unasked | checks | verdict | seconds |"]
    text.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        verdict = "clean" if row["clean"] else "NOT CLEAN"
        numbers = [row["prompts"], row["starts"], len(row["exits"]), len(row["findings"]), verdict, row["seconds"]]
        text.append("| " + " | ".join(map(str, [row["scenario"], row["seed"], *numbers])) + " |")
    seen = Counter[str]()
    for row in rows:
        seen.update(row["evidence"])
    text += ["", "Seen in the logs: " + ", ".join(f"{count} {name}" for name, count in seen.items() if count)]
    for row in rows:
        name = f"{row['scenario']}, seed {row['seed']}"
        text += [f"\n{name}: {problem}" for problem in row["problems"]]
        text += [
            f"\n{name}: {finding['check']}: lost {finding['lost']}, doubled {finding['doubled']}, "
            f"different {finding['different']}: {finding['sample']}"
            for finding in row["findings"]
            if finding["lost"] or finding["doubled"] or finding["different"]
        ]
    return "\n".join(text) + "\n"
