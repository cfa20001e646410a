"""The labelled prompts that methods are measured on.

    dataset         the prompts of Dataset/, with its truth: ships with the repository
    heldout         `heldout/`: templates and values that no other set has; filled anew from one seed
    promptfamilies  150 real templates and one-off prompts; may not be shipped, read where it is present
    evolution       callers that change their template half-way; likewise
    loghub          2,000 log lines of eight systems, the home ground of log parsers; likewise

Rules: a set is a stream, in the order of its time stamps. In `dataset` the callers that change their template are
judged by their changes, not as families: measures of grouping know no change.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson

from infra.bench.quality.changes import Change
from infra.bench.quality.heldout.build import build
from infra.bench.quality.scoring import Labelled

ROOT = Path(__file__).parents[3]
SETS = ("dataset", "heldout", "promptfamilies", "evolution", "loghub")
DATA_DEFAULT = ROOT.parent / "shared" / "data"
LOG_WILDCARD = re.compile(r"<\*>")
FOREIGN_TENANTS = {"apac", "europe"}
CODE_TENANT = "engineering"
SHORT_TEMPLATE_CHARS = 160
LONG_SLOT_CHARS = 300  # mean of a slot's values, from which a family counts as long
MINUTE_CHARS = len("2026-03-02T00:00")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A stream of prompts with the truth. `ignored` prompts are in the stream, but grouping is not judged by them."""

    name: str
    rows: tuple[Labelled, ...]
    minutes: tuple[str, ...] = ()  # of each row: the order within one says little
    ignored: frozenset[str] = frozenset()
    lineages: tuple[tuple[str, str], ...] = ()  # (prompt id, lineage)
    changes: tuple[Change, ...] = ()

    @property
    def judged(self) -> list[Labelled]:
        return [row for row in self.rows if row.id not in self.ignored]


def load(name: str, data: Path) -> list[LabelledSet]:
    """Return the sets of a name; none where its data is absent."""
    if name == "dataset":
        return [_dataset()]
    if name == "heldout":
        main, oneoffs = build()
        return [_set("heldout", sorted([*main, *oneoffs], key=lambda row: str(row["ts"])))]
    folder = data / ("promptfamilies" if name == "evolution" else name)
    if not folder.is_dir():
        return []
    if name == "promptfamilies":
        rows = [*_lines(folder / "main.jsonl.gz"), *_lines(folder / "noise.jsonl")]
        return [_set(name, sorted(rows, key=lambda row: str(row["ts"])))]
    if name == "evolution":
        rows = list(_lines(folder / "evolution.jsonl.gz"))
        return [_evolution(rows, list(_lines(folder / "evolution_events.jsonl")))]
    return [_logs(path) for path in sorted(folder.glob("*_2k.log_structured.csv"))]


def stream_of(labelled: LabelledSet, way: str) -> list[Labelled]:
    """Return the rows in another order, or fewer: `given`, `shuffle N`, `minute` (shuffled within), `dropped` (5 %)."""
    rows = list(labelled.rows)
    random = Random(way)  # noqa: S311  reproducible orders
    if way.startswith("shuffle"):
        random.shuffle(rows)
    elif way == "minute":
        places = {minute: place for place, minute in enumerate(dict.fromkeys(labelled.minutes))}
        keys = [(places[minute], random.random()) for minute in labelled.minutes]
        rows = [rows[position] for position in sorted(range(len(rows)), key=keys.__getitem__)]
    elif way == "dropped":
        rows = [row for row in rows if random.random() >= 0.05]
    return rows


def _set(name: str, rows: Sequence[Row], **more: Any) -> LabelledSet:
    labelled = tuple(
        Labelled(row["id"], row["text"], row["template_id"], row["template"], row.get("variant", "")) for row in rows
    )
    return LabelledSet(name, labelled, tuple(str(row["ts"])[:MINUTE_CHARS] for row in rows), **more)


def _dataset() -> LabelledSet:
    rows = sorted(_lines(ROOT / "Dataset" / "truth.jsonl.gz"), key=lambda row: str(row["ts"]))
    changes = list(_lines(ROOT / "Dataset" / "evolution_truth.jsonl"))
    changed = {str(change["lineage_id"]) for change in changes}
    lineages = []
    for row in rows:
        if row["template_id"] is not None:
            # Two tenants may send the same template; here all are one stream.
            row["template_id"] = str(row["template_id"]).rpartition("/")[2]
            lineages.append((str(row["id"]), row["template_id"]))
    for name, variant in _variants(rows).items():
        for row in rows:
            if row["template_id"] == name:
                row["variant"] = variant
    return _set(
        "dataset",
        rows,
        ignored=frozenset(str(row["id"]) for row in rows if row["template_id"] in changed),
        lineages=tuple(lineages),
        changes=tuple(_changes(changes)),
    )


def _variants(rows: Sequence[Row]) -> dict[str, str]:
    """Return family -> what kind of template it is."""
    families: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["template_id"] is not None:
            families[row["template_id"]].append(row)
    return {name: _variant(members) for name, members in families.items()}


def _variant(members: Sequence[Row]) -> str:
    first = members[0]
    if first["tenant"] in FOREIGN_TENANTS:
        return "multilingual"
    if first["tenant"] == CODE_TENANT:
        return "code"
    lengths = [[len(value) for value in member["slots"].values()] for member in members]
    longest = max((sum(of_slot) / len(of_slot) for of_slot in zip(*lengths, strict=False)), default=0.0)
    if longest > LONG_SLOT_CHARS:
        return "long"
    return "short" if len(first["template"]) <= SHORT_TEMPLATE_CHARS else "mid"


def _evolution(rows: Sequence[Row], events: Sequence[Row]) -> LabelledSet:
    return _set(
        "evolution",
        rows,
        ignored=frozenset(str(row["id"]) for row in rows),
        lineages=tuple((str(row["id"]), str(row["lineage_id"])) for row in rows),
        changes=tuple(_changes(event for event in events if event["kind"] != "none")),
    )


def _changes(events: Any) -> Iterator[Change]:
    for event in events:
        yield Change(event["lineage_id"], event["kind"], event["position_id"], event.get("word_similarity") or 1.0)


def _logs(path: Path) -> LabelledSet:
    corrected = path.with_name(path.name.replace(".csv", "_corrected.csv"))
    system = path.name.partition("_")[0]
    with (corrected if corrected.is_file() else path).open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    rows = tuple(
        Labelled(
            f"{system}{number:05}", line["Content"], line["EventId"], LOG_WILDCARD.sub("{{*}}", line["EventTemplate"])
        )
        for number, line in enumerate(lines)
    )
    return LabelledSet(f"loghub/{system}", rows, ("",) * len(rows))


def _lines(path: Path) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as lines:
        for line in lines:
            if line.strip():
                yield orjson.loads(line)
