"""Build `Dataset/`: the prompts of a small company over four weeks, and the truth about them.

    python -m infra.dataset.build [FOLDER]

Real templates and real one-off prompts (`sources/`, each with its licence) are sent by the callers that
`plan.yaml` names, filled with values of the phrase grammar and Faker, in several formats and encodings.
Some callers change their template on the way. One seed, no clock, no network: the same files every time.
The truth is written by reading the files back, so that its ids are those `promptloom replay` gives.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import yaml

from infra.dataset.grammar import Grammar, read_rules
from infra.dataset.truth import write_truth
from infra.dataset.writers import write_file, write_package
from streams.prompts.chat import flatten

HERE = Path(__file__).parent
SEED = 20260901
START = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 28
# Office hours are busier than nights: weight of each hour of the day.
HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 18, 16, 12, 15, 18, 17, 15, 11, 8, 6, 5, 4, 3, 2)
SLOT = re.compile(r"\{\{(\w+)\}\}")
# Prose for long slot values: whole, plain sentences of these Apache-2.0 sets.
PROSE = ("yizhongw/self-instruct user_oriented_instructions", "yizhongw/self-instruct seed_tasks")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SENTENCE = re.compile(r"[A-Z][^{}\[\]`\"<>|#*_:@\\]{40,220}\.$")
RAMP = 0.12  # share of the four weeks in which both versions of a ramping caller are seen
REPEATS = 14  # prompts a client sent twice, id and all, after a time-out
# Invented models at invented prices per million tokens: (name, prompt, completion).
MODELS = (("small-4", 0.15, 0.6), ("medium-4", 1.1, 4.4), ("large-4", 3.0, 12.0))
# U+2011, a hyphen that cp1252 does not have, in two French templates.
HYPHENS = str.maketrans({"\u2011": "-"})

Row = dict[str, Any]


@dataclass(slots=True)
class Item:
    """One prompt on its way into a file, with the truth about it."""

    created_at: datetime
    text: str
    source: str
    licence: str
    template_id: str | None = None
    template: str | None = None
    slots: dict[str, str] = field(default_factory=dict)
    lineage_id: str | None = None
    version: str = "1"
    messages: list[tuple[str, str]] | None = None
    usage: Row | None = None
    id: str | None = None


class Builder:
    """Draws everything in one fixed order from one seed."""

    def __init__(self) -> None:
        self.random = Random(SEED)  # noqa: S311  a reproducible data set, no secret
        oneoffs = list(_rows("oneoffs"))
        rules = read_rules(HERE / "phrases.yaml") | {"real_sentence": tuple(_sentences(oneoffs))}
        self.grammar = Grammar(rules, self.random)
        self.plan = yaml.safe_load((HERE / "plan.yaml").read_text(encoding="utf-8"))
        self.templates = {row["template_id"]: row for row in _rows("templates")}
        self.changes = {row["lineage_id"]: row for row in _rows("changes")}
        self.random.shuffle(oneoffs)
        # A text file takes one-off prompts of one line; the others take what is left.
        single_line = [row for row in oneoffs if "\n" not in row["text"]]
        kept = sum(plan["oneoffs"] for plan in self.plan["files"] if plan["format"] == "txt")
        self._single_line = iter(single_line[:kept])
        self._others = (row for row in oneoffs if row not in single_line[:kept])
        self.offensive = list(_rows("moderation"))

    def items_of(self, plan: Row) -> list[Item]:
        """Return the prompts of one file of the plan, by time."""
        items: list[Item] = []
        for stream in plan["streams"]:
            items += self._stream(plan, stream)
        for lineage in self.plan["lineages"]:
            if lineage["file"] == plan["path"]:
                items += self._lineage(plan["tenant"], lineage)
        items += [self._oneoff(plan) for _ in range(plan["oneoffs"])]
        if plan["tenant"] == "default" and plan["format"] == "json":
            items += [self._as_it_is(row) for row in self.offensive]
        items.sort(key=lambda item: item.created_at)
        for number, item in enumerate(items, start=1):
            if plan["format"] in ("jsonl", "csv") and plan["encoding"] != "cp1252":
                item.id = f"{plan['tenant'][:3]}-{number:06}"
            if self.random.random() < plan.get("usage_share", 0):
                item.usage = self._usage(item.text)
        return self._with_repeats(items) if plan["format"] == "jsonl" else items

    def _stream(self, plan: Row, stream: Row) -> Iterator[Item]:
        row = self.templates[stream["id"]]
        for _ in range(stream["n"]):
            item = self._filled(row["template"], stream["slots"], row)
            item.created_at = self._moment(0.0, 1.0)
            item.template_id = f"{plan['tenant']}/{stream['id']}"
            if stream.get("chat"):
                turns = [("system", plan["system"]), ("user", item.text)]
                item.messages, item.text = turns, flatten(turns)
                item.template = flatten([turns[0], ("user", item.template or "")])
            yield item

    def _lineage(self, tenant: str, lineage: Row) -> Iterator[Item]:
        change = self.changes[lineage["id"]]
        at = lineage["at"]
        overlap = RAMP if lineage["transition"] == "ramp" else 0.0
        periods = ((0.0, at + overlap), (at, 1.0))
        templates = (change["template_before"], change["template_after"])
        values = (lineage["slots"], {**lineage["slots"], **lineage.get("after", {})})
        for number in (0, 1):
            for _ in range(lineage["n"][number]):
                item = self._filled(templates[number], values[number], change)
                item.created_at = self._moment(*periods[number])
                item.lineage_id, item.version = lineage["id"], str(number + 1)
                item.template_id = f"{tenant}/{lineage['id']}"
                yield item

    def _filled(self, template: str, values: dict[str, str], row: Row) -> Item:
        template = template.translate(HYPHENS)
        remembered: dict[str, str] = {}
        names = set(SLOT.findall(template))
        # In the order of the plan, where a later value may depend on an earlier one.
        slots = {name: self.grammar.expand(values[name], remembered) for name in values if name in names}
        text = SLOT.sub(lambda match: slots[match[1]], template)
        source = f"{row['source']}: {row['name']}"[:200]
        return Item(START, text, source, row["licence"], template=template, slots=slots)

    def _oneoff(self, plan: Row) -> Item:
        return self._as_it_is(next(self._single_line if plan["format"] == "txt" else self._others))

    def _as_it_is(self, row: Row) -> Item:
        return Item(self._moment(0.0, 1.0), row["text"], row["source"], row["licence"])

    def _moment(self, start: float, end: float) -> datetime:
        """Return a moment between two shares of the four weeks, more often one of office hours."""
        while True:
            day = self.random.uniform(start, end) * DAYS
            hour = self.random.choices(range(24), HOURS)[0]
            moment = int(day) + (hour + self.random.random()) / 24
            if start * DAYS <= moment < end * DAYS:
                return START + timedelta(milliseconds=int(moment * 86_400_000))

    def _usage(self, text: str) -> Row:
        model, prompt_price, completion_price = self.random.choice(MODELS)
        prompt_tokens, completion_tokens = len(text) // 4 + 3, self.random.randint(8, 700)
        cost = (prompt_tokens * prompt_price + completion_tokens * completion_price) / 1_000_000
        return {
            "model": model,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cost_usd": round(cost, 6),
        }

    def _with_repeats(self, items: list[Item]) -> list[Item]:
        """Send some prompts a second time a few places later, as a client does after a time-out."""
        for position in sorted(self.random.sample(range(len(items) - 5), REPEATS // 2), reverse=True):
            items.insert(position + self.random.randint(1, 4), items[position])
        return items


def build(folder: Path) -> None:
    """Write all files of the data set and its truth."""
    builder = Builder()
    folder.mkdir(parents=True, exist_ok=True)
    items_by_path: dict[str, list[Item]] = {}
    for plan in builder.plan["files"]:
        items = builder.items_of(plan)
        write_file(folder / plan["path"], plan, items)
        items_by_path[plan["path"]] = items
    write_package(folder, builder.plan["files"], items_by_path)
    write_truth(folder, items_by_path, builder.plan["lineages"], builder.changes)


def _sentences(oneoffs: list[Row]) -> Iterator[str]:
    """Yield the sentences of the texts that one-off prompts are about; a first line is the instruction."""
    for row in oneoffs:
        if row["source"] in PROSE:
            for line in row["text"].split("\n")[1:]:
                yield from filter(SENTENCE.match, SENTENCE_END.split(line.strip()))


def _rows(name: str) -> Iterator[Row]:
    with (HERE / "sources" / f"{name}.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "Dataset"))
