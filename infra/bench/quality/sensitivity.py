"""What each number in the rooms is worth: halved and doubled, one at a time, measured again.

Each trial is a process of its own, with the changed number in place, and is remembered in a file: a run that
was stopped goes on where it was. A stream is cut to its first `TRIAL_PROMPTS`, unless it is one of changes. Numbers
that are computed from others when a module is loaded do not follow them.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import multiprocessing
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from infra.bench.quality.changes import judge
from infra.bench.quality.methods.promptloom import mined
from infra.bench.quality.report import table
from infra.bench.quality.scoring import Scores, score
from infra.bench.quality.sets import ROOT, LabelledSet
from streams import native
from streams.prompts.clustering.policy import Policy

TRIAL_PROMPTS = 2_500
POLICY = "streams.prompts.clustering.policy"
TEMPLATES_ROOM = "streams.prompts.canonicalization"  # a set of changes alone is tried on its numbers only
ROOMS = tuple(room.replace("/", ".") for room in native.ROOMS)
# Formats, caches, and bounds that no stream of this size reaches; names and types of slots are not measured.
NOT_TRIED = {
    "BIT", "FORMAT", "VECTOR_SCALE", "SHARE_DIGITS", "SEGMENT_IDS",
    "EMPTY_COSTS_PROMPTS", "CENTROID_MEMBERS_MAX", "KEPT_PROMPTS_MAX", "STEP_BYTES", "WAITING_CHARS_MAX",
    "SKETCHED_CHARS_MAX", "SHINGLES_MAX", "MEANING_UNKNOWN", "CHARS_MAX", "ITEM_BYTES", "NAME_WORDS",
    "DESCRIPTION_CHARS_MAX", "KEPT_CHARS_MAX", "KEPT_MIN", "POOL_CHARS_MAX",
    "VALUE_CHARS_MAX", "TEXT_CHARS_MAX", "HISTORY_MAX", "PAIRS_MAX", "waiting_max", "waiting_age_max",
    "retire_after", "retired_max", "stub_constants_max", "recent_ids_max", "version", "calibrated", "GROWTH_MAX",
    "SHARES_CACHED",
}  # fmt: skip
# Machine code (the last one) keeps the constants that it was compiled with.
NOT_MEASURED = {"slots", "agent", "rows", "languages", "compiled"}
PERCENT_MAX = 100
SHOWN = ("GA", "FGA", "FTA", "noise in own clusters", "evolution F1")
BOLD_FROM, SHOWN_FROM = 0.02, 0.0005
PROCESSES = multiprocessing.get_context("forkserver")  # forks a process that has loaded everything and has no threads
PROCESSES.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Number:
    """A number some rule decides by, and where it stands."""

    module: str
    name: str
    value: float

    @property
    def room(self) -> str:
        return self.module.removeprefix("streams.prompts.")

    def others(self) -> list[float]:
        """Return half of it and twice it, whole where it is whole, and a share at most one."""
        whole = isinstance(self.value, int)
        half = max(1, self.value // 2) if whole else self.value / 2
        double = 2 * self.value
        if "percent" in self.name.lower():
            double = min(double, PERCENT_MAX)
        elif not whole and self.value <= 1:
            double = min(double, 1.0)
        return [value for value in (half, double) if value != self.value]


def numbers() -> list[Number]:
    """Return every number of the rooms that is worth a trial."""
    policy = dataclasses.asdict(Policy())
    found = [Number(POLICY, name, value) for name, value in policy.items() if name not in NOT_TRIED]
    for room in ROOMS:
        for module in pkgutil.iter_modules(importlib.import_module(room).__path__):
            if module.name not in NOT_MEASURED:
                found += _constants(f"{room}.{module.name}")
    return found


def sensitivity_table(sets: Sequence[LabelledSet], folder: Path, say: Callable[[str], None]) -> str:
    """Return the table of every number halved and doubled, as markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {labelled.name: trial(labelled, folder, None, 0.0) for labelled in sets}
    judged = [(name, measure) for name in base for measure in SHOWN if measure in base[name]]
    lines = [["*as it is*", "", "", *(f"{base[name][measure]:.3f}" for name, measure in judged)]]
    tried = numbers()
    for place, number in enumerate(tried, 1):
        for value in number.others():
            say(f"number {place} of {len(tried)}: {number.room} {number.name} = {value:g}")
            fitting = [labelled for labelled in sets if labelled.judged or number.module.startswith(TEMPLATES_ROOM)]
            scores = {labelled.name: trial(labelled, folder, number, value) for labelled in fitting}
            changes = [_difference(scores.get(name), measure, base[name]) for name, measure in judged]
            lines.append([f"{number.room}.{number.name}", f"{number.value:g}", f"{value:g}", *changes])
    return table(["number", "value", "tried", *(f"{name} {measure}" for name, measure in judged)], lines) + "\n"


def _constants(name: str) -> list[Number]:
    """Return the numbers a module gives names to itself."""
    module = importlib.import_module(name)
    source = _source(name)
    return [
        Number(name, constant, value)
        for constant, value in vars(module).items()
        if constant.isupper()
        and not constant.startswith("_")
        and constant not in NOT_TRIED
        and type(value) in (int, float)
        and f"\n{constant} = " in source
    ]


def _difference(scores: Scores | None, measure: str, base: Scores) -> str:
    if scores is None:
        return ""  # not tried on this set
    if measure not in scores:
        return "failed"
    change = scores[measure] - base[measure]
    text = f"{change:+.3f}"
    return "·" if abs(change) < SHOWN_FROM else f"**{text}**" if abs(change) >= BOLD_FROM else text


def trial(labelled: LabelledSet, folder: Path, number: Number | None, value: float) -> Scores:
    """Return the scores of one trial, from disk if the rooms are as they were then; none if it broke."""
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "streams/prompts").rglob("*.py")))
    key = f"{labelled.name} {TRIAL_PROMPTS} {number} {value} {sources}"
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if not path.is_file():
        child = PROCESSES.Process(target=_try, args=(labelled, path, number, value))
        child.start()
        child.join()
        if child.exitcode:
            return {}
    scores: Scores = orjson.loads(path.read_bytes())
    return scores


def _try(labelled: LabelledSet, path: Path, number: Number | None, value: float) -> None:
    policy = Policy()
    if number is not None and number.module == POLICY:
        changed: dict[str, Any] = {number.name: value}
        policy = dataclasses.replace(policy, **changed)
    elif number is not None:
        _put(number, value)
    stream = labelled.rows if labelled.changes else labelled.rows[:TRIAL_PROMPTS]
    outcome = mined(stream, policy)
    judged = [row for row in stream if row.id not in labelled.ignored]
    scores: Scores = score(judged, outcome.predictions) if judged else {}
    if labelled.changes:
        scores |= judge(labelled.lineages, labelled.changes, outcome.events)
    path.write_bytes(orjson.dumps(scores))


def _put(number: Number, value: float) -> None:
    """Change a constant where it is defined and in every module that imported it."""
    for name, module in list(sys.modules.items()):
        imports = name.startswith(ROOMS) and number.name in _imported(name, number.module)
        if name == number.module or imports:
            setattr(module, number.name, value)


def _imported(name: str, module: str) -> set[str]:
    """Return what a module imports from another one."""
    tree = ast.parse(_source(name))
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


def _source(name: str) -> str:
    """Return the source of a module that may run as machine code; of a room itself, nothing."""
    file = (ROOT / name.replace(".", "/")).with_suffix(".py")
    return file.read_text(encoding="utf-8") if file.is_file() else ""
