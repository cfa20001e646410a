"""Run methods on sets, and remember each result, so that a run that was stopped goes on where it was.

A result lies in a file of its own, named by what was run, with a fingerprint of the data and of the sources it
depends on: a change of either makes it stale, and it is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from infra.bench.quality.changes import judge, survival
from infra.bench.quality.methods import METHODS, Method, Outcome
from infra.bench.quality.scoring import Labelled, Scores, score
from infra.bench.quality.sets import ROOT, LabelledSet, stream_of

GIVEN = "given"
DISTURBED = ("dropped", "minute")  # streams in which clusters are to survive
CHOSEN_BY = "GA"  # the measure by which the best setting of a method is chosen, on the very set it is shown for


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave. `homes` maps prompt ids to clusters."""

    method: str
    setting: str
    set_name: str
    way: str
    scores: Scores
    homes: dict[str, str | None]


class Runs:
    """Results on disk, computed when they are asked for."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._sources = {name: _fingerprint_of_sources(method) for name, method in METHODS.items()}
        folder.mkdir(parents=True, exist_ok=True)

    def result(self, method: Method, setting: str, labelled: LabelledSet, way: str = GIVEN) -> Result:
        """Return the result of one run, from disk if it is there and not stale."""
        stream = stream_of(labelled, way)
        fingerprint = _digest(self._sources[method.name], *(f"{row.id} {row.text}" for row in stream))
        name = "_".join((method.name, setting, labelled.name, way))
        path = self._folder / f"{_digest(name)[:16]}.json"
        if path.is_file():
            stored: dict[str, Any] = orjson.loads(path.read_bytes())
            if stored.pop("fingerprint") == fingerprint:
                return Result(**stored)
        self._say(f"{labelled.name}, {way}: {method.name} {setting}")
        outcome = method.settings[setting](stream)
        result = _judged(method, setting, labelled, way, stream, outcome)
        fields = {slot: getattr(result, slot) for slot in Result.__slots__}
        path.write_bytes(orjson.dumps({"fingerprint": fingerprint, **fields}))
        return result

    def best(self, method: Method, labelled: LabelledSet) -> Result:
        """Return the result of the setting that does best on this set."""
        results = [self.result(method, setting, labelled) for setting in method.settings]
        return max(results, key=lambda result: result.scores.get(CHOSEN_BY, 0.0))

    def survival(self, method: Method, setting: str, labelled: LabelledSet) -> Scores:
        """Return which share of the clusters survives each disturbance."""
        before = self.result(method, setting, labelled).homes
        return {
            f"survival, {way}": survival(before, self.result(method, setting, labelled, way).homes) for way in DISTURBED
        }


def _judged(
    method: Method, setting: str, labelled: LabelledSet, way: str, stream: Sequence[Labelled], outcome: Outcome
) -> Result:
    present = {row.id for row in stream}
    judged = [row for row in labelled.judged if row.id in present]
    scores: Scores = score(judged, outcome.predictions) if judged else {}
    placing = outcome.cpu_seconds
    scores["prompts/s"] = len(stream) / max(1e-9, placing)
    scores["prompts/s without embedding"] = len(stream) / max(1e-9, placing - outcome.embedding_cpu_seconds)
    if method.sees_change and labelled.changes and way == GIVEN:
        scores |= judge(labelled.lineages, labelled.changes, outcome.events)
    homes = {row.id: said.cluster if (said := outcome.predictions.get(row.id)) else None for row in stream}
    return Result(method.name, setting, labelled.name, way, scores, homes)


def _fingerprint_of_sources(method: Method) -> str:
    files = sorted({path for pattern in method.files for path in ROOT.glob(pattern)})
    own = sorted(Path(__file__).parent.glob("*.py"))
    return _digest(*(path.read_text(encoding="utf-8") for path in (*files, *own) if path.name not in _WITHOUT_EFFECT))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


# Modules of this package that show results and change none.
_WITHOUT_EFFECT = {"report.py", "picture.py", "__main__.py", "sensitivity.py", "runs.py"}
