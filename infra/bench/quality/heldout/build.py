"""Fill the held-out templates: prompts with the truth about them, and one-off prompts in between.

Family sizes follow Zipf's law from `LARGEST` down to `SMALLEST`; prompts come in one mixed stream. One seed, no
clock. What was filled is checked: a template filled with its slots is the text, byte for byte.

    python -m infra.bench.quality.heldout FOLDER
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from infra.bench.quality.heldout.installed import SENTENCE_CHARS
from infra.bench.quality.heldout.values import Values

HERE = Path(__file__).parent
SEED = 20261121
START = datetime(2026, 11, 2, tzinfo=UTC)
LARGEST, SMALLEST = 600, 20  # prompts of the largest and of the smallest families
DOCUMENTS_PASTED = 60  # one-off prompts that are a pasted paragraph and nothing else
SLOT = re.compile(r"\{\{(\w+)\}\}")
CODE_KINDS = {"code", "diff", "sql"}
LONG_KINDS = {"passage", "history", "list"}
SHORT_CHARS_MAX = 160

Row = dict[str, Any]


def build(seed: int = SEED) -> tuple[list[Row], list[Row]]:
    """Return the prompts of families, and the one-off prompts, each by time."""
    random = Random(seed)  # noqa: S311  a reproducible data set, no secret
    values = Values(random)
    templates = _lines("templates.jsonl")
    random.shuffle(templates)
    main = [
        _filled(template, values)
        for rank, template in enumerate(templates, 1)
        for _ in range(max(SMALLEST, LARGEST // rank))
    ]
    random.shuffle(main)
    noise = [{"text": row["text"]} for row in _lines("oneoffs.jsonl")]
    noise += [{"text": _paragraph(document)} for document in random.sample(values.others, DOCUMENTS_PASTED)]
    random.shuffle(noise)
    at = START
    for number, row in enumerate(main):
        at += timedelta(seconds=random.randint(1, 120))
        row |= {"id": f"h{number:06}", "ts": at.isoformat()}
    span = int((at - START).total_seconds())
    moments = sorted(START + timedelta(seconds=random.randrange(span)) for _ in noise)
    for number, (row, moment) in enumerate(zip(noise, moments, strict=True)):
        row |= {"id": f"hn{number:05}", "template_id": None, "template": None, "slots": {}, "ts": moment.isoformat()}
    return main, noise


def write(folder: Path) -> None:
    """Write main.jsonl and noise.jsonl into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("main.jsonl", "noise.jsonl"), build(), strict=True):
        (folder / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _filled(template: Row, values: Values) -> Row:
    slots = {name: values.draw(kind) for name, kind in template["slots"].items()}
    text = SLOT.sub(lambda match: slots[match[1]], template["template"])
    return {
        "text": text,
        "template_id": template["template_id"],
        "template": template["template"],
        "slots": slots,
        "variant": _variant(template),
        "source": template["source"],
    }


def _variant(template: Row) -> str:
    """Return the kind of a template: of several that fit, the hardest."""
    kinds = set(template["slots"].values())
    if any(ord(character) > 0x24F for character in template["template"]) or any("_" in kind for kind in kinds):
        return "multilingual"
    if kinds & CODE_KINDS:
        return "code"
    if kinds & LONG_KINDS:
        return "long"
    return "short" if len(template["template"]) <= SHORT_CHARS_MAX else "mid"


def _paragraph(document: str) -> str:
    return max(document.split("\n\n"), key=len)[: 4 * SENTENCE_CHARS[1]].strip()


def _lines(name: str) -> list[Row]:
    return [orjson.loads(line) for line in (HERE / name).read_bytes().splitlines() if line]
