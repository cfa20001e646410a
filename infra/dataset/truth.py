"""Write down what is true about the data set, in the form quality is scored with.

truth.jsonl.gz           one line a prompt, in the order of replay: id, text, template_id (null = a one-off
                         prompt), template, slots, lineage_id, version. A repeated id has one line.
evolution_truth.jsonl    one line a caller that changes: kind, and position_id, its first prompt of the new version

The ids are taken from the written files, read as `promptloom replay` reads them.
"""

from __future__ import annotations

import difflib
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.dataset import BadLine, find, read, sha256_of
from schemas.ids import prompt_id_of_line
from streams.prompts.chat import flatten

if TYPE_CHECKING:
    from infra.dataset.build import Item

Row = dict[str, Any]


def write_truth(
    folder: Path, items_by_path: dict[str, list[Item]], lineages: list[Row], changes: dict[str, Row]
) -> None:
    rows: list[Row] = []
    seen: set[tuple[str, str]] = set()
    for file in find(folder):
        identity = sha256_of(file)
        for row, item in zip(read(file), items_by_path[file.path.name], strict=True):
            if isinstance(row, BadLine) or _text(row.fields) != item.text:
                raise ValueError(f"{file.path}: row {row.number}: what was written is not what is read")
            prompt_id = row.fields.get("id") or prompt_id_of_line(identity, row.number)
            if (file.tenant, prompt_id) not in seen:
                seen.add((file.tenant, prompt_id))
                rows.append(_truth(prompt_id, file.tenant, item))
    with gzip.GzipFile(folder / "truth.jsonl.gz", "wb", mtime=0) as out:
        out.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    with (folder / "evolution_truth.jsonl").open("w", encoding="utf-8", newline="\n") as events:
        for lineage in lineages:
            change = _change(rows, lineage, changes[lineage["id"]])
            events.write(json.dumps(change, ensure_ascii=False) + "\n")


def _text(fields: Row) -> str:
    if "messages" in fields:
        return flatten((message["role"], message["content"]) for message in fields["messages"])
    return str(fields["text"])


def _truth(prompt_id: str, tenant: str, item: Item) -> Row:
    return {
        "id": prompt_id,
        "tenant": tenant,
        "text": item.text,
        "template_id": item.template_id,
        "template": item.template,
        "slots": item.slots,
        "lineage_id": item.lineage_id or item.template_id,
        "version": item.version if item.template_id else None,
        "ts": item.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _change(rows: list[Row], lineage: Row, change: Row) -> Row:
    own = [row for row in rows if row["lineage_id"] == lineage["id"]]
    first = next(row for row in own if row["version"] == "2")
    before, after = change["template_before"], change["template_after"]
    return {
        "lineage_id": lineage["id"],
        "tenant": first["tenant"],
        "kind": change["kind"],
        "transition": lineage["transition"],
        "position_id": first["id"],
        "n_before": sum(row["version"] == "1" for row in own),
        "n_after": sum(row["version"] == "2" for row in own),
        "template_before": before,
        "template_after": after,
        "word_similarity": round(difflib.SequenceMatcher(None, before.split(), after.split()).ratio(), 3),
        "how": change["how"],
        "source": change["source"],
        "licence": change["licence"],
    }
