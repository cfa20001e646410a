"""Copy what may be shipped out of a folder of labelled prompts into `sources/`.

    python -m infra.dataset.collect FOLDER

FOLDER holds `promptfamilies/` and `moderation/` as their README describes them. Taken are only
  - templates whose licence is CC0-1.0, MIT or Apache-2.0 (those that state none stay behind),
  - real one-off prompts whose source names one of these licences,
  - template changes between such templates,
  - a few mildly offensive texts of the MIT moderation set, so that a demo has something to reject.
Slot values are never taken: they come from sources that may not be shipped. `build.py` writes its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "sources"
LICENCES = ("CC0-1.0", "MIT", "Apache-2.0")
DECLARED = re.compile(r"^(?P<source>.*) \((?P<licence>[^()]+)\)$")  # "owner/name part (licence)"
MODERATION_SOURCE = "openai/moderation-api-release"
# Texts by position in the set: harassment and prejudice without slurs, threats of detail, or anything sexual.
MODERATION_POSITIONS = (34, 137, 141, 377, 664, 674, 723)

Row = dict[str, Any]


def main(folder: Path) -> None:
    families = list(_rows(folder / "promptfamilies" / "families.jsonl"))
    licence_of = {row["source"]: row["licence"] for row in families if row["licence"] in LICENCES}
    _write("templates.jsonl", (_template(row) for row in families if row["licence"] in LICENCES))
    _write("changes.jsonl", _changes(folder / "promptfamilies" / "evolution_events.jsonl", licence_of))
    _write("oneoffs.jsonl", _oneoffs(folder / "promptfamilies" / "noise.jsonl"))
    _write("moderation.jsonl", _moderation(folder / "moderation" / "samples.jsonl"))


def _template(row: Row) -> Row:
    kept = ("template_id", "template", "slots", "source", "path", "name", "licence", "lang")
    return {key: row[key] for key in kept}


def _changes(path: Path, licence_of: dict[str, str]) -> Iterator[Row]:
    kept = ("lineage_id", "kind", "name", "source", "how", "template_before", "template_after")
    for row in _rows(path):
        if row["kind"] != "none" and row["source"] in licence_of:
            yield {key: row[key] for key in kept} | {"licence": licence_of[row["source"]]}


def _oneoffs(path: Path) -> Iterator[Row]:
    for row in _rows(path):
        declared = DECLARED.match(row["source"])
        if declared and declared["licence"] in LICENCES:
            yield {"text": row["text"], "source": declared["source"], "licence": declared["licence"]}


def _moderation(path: Path) -> Iterator[Row]:
    rows = list(_rows(path))
    for position in MODERATION_POSITIONS:
        yield {"text": rows[position]["prompt"], "source": MODERATION_SOURCE, "licence": "MIT"}


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _write(name: str, rows: Iterable[Row]) -> None:
    SOURCES.mkdir(exist_ok=True)
    with (SOURCES / name).open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
