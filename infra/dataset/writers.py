"""Write prompts in the formats people keep them in, and the data package that describes the files.

The text formats hold text only: their source and licence stand in the data package. CSV and JSON rows
carry both.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.dataset.build import Item

COLUMNS = (
    "id",
    "prompt",
    "created_at",
    "source",
    "licence",
    "usage.model",
    "usage.prompt_tokens",
    "usage.completion_tokens",
    "usage.cost_usd",
)
LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "MIT": "https://opensource.org/license/mit",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}

Row = dict[str, Any]


def write_file(path: Path, plan: Row, items: list[Item]) -> None:
    if plan["format"] == "csv":
        text = _csv(items, plan.get("delimiter", ","))
    elif plan["format"] == "txt":
        text = _blocks(items) if plan.get("blocks") else _lines(items)
    elif plan["format"] == "json":
        rows = ",\n".join(_json(_row(item, plan["tenant"])) for item in items)
        text = f"[\n{rows}\n]\n"
    else:
        text = "".join(_json(_row(item, plan["tenant"])) + "\n" for item in items)
    data = text.encode(plan["encoding"])
    # No name and no time in the compressed file: it is to be the same whenever it is built.
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def write_package(folder: Path, plans: Iterable[Row], items_by_path: dict[str, list[Item]]) -> None:
    resources = []
    for plan in plans:
        items = items_by_path[plan["path"]]
        content = (folder / plan["path"]).read_bytes()
        repeated = sorted(identity for identity, n in Counter(item.id for item in items if item.id).items() if n > 1)
        resources.append(
            {
                "name": plan["path"].split(".")[0],
                "path": plan["path"],
                "format": plan["format"],
                "encoding": plan["encoding"],
                **({"dialect": {"delimiter": plan.get("delimiter", ",")}} if plan["format"] == "csv" else {}),
                "tenant": plan["tenant"],
                "prompts": len(items),
                "repeated_ids": repeated,
                "bytes": len(content),
                "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "licenses": [{"name": name, "path": LICENCES[name]} for name in _distinct(i.licence for i in items)],
                "sources": [{"title": title} for title in _distinct(item.source for item in items)],
            }
        )
    package = {
        "name": "promptloom-dataset",
        "title": "Prompts of a small company over four weeks, some of whose templates change",
        "faker": version("faker"),
        "resources": resources,
    }
    text = json.dumps(package, ensure_ascii=False, indent=1) + "\n"
    (folder / "datapackage.json").write_text(text, encoding="utf-8", newline="\n")


def _distinct(names: Iterable[str]) -> list[str]:
    return sorted(set(names))


def _row(item: Item, tenant: str) -> Row:
    row: Row = {"id": item.id} if item.id else {}
    row |= {"tenant": tenant, "created_at": _stamp(item), "source": item.source, "licence": item.licence}
    if item.messages:
        row["messages"] = [{"role": role, "content": content} for role, content in item.messages]
    else:
        row["text"] = item.text
    if item.usage:
        row["usage"] = item.usage
    return row


def _csv(items: list[Item], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(COLUMNS)
    for item in items:
        usage = item.usage or {}
        writer.writerow(
            [
                item.id or "",
                item.text,
                _stamp(item),
                item.source,
                item.licence,
                *(usage.get(name.removeprefix("usage."), "") for name in COLUMNS if name.startswith("usage.")),
            ]
        )
    return out.getvalue()


def _lines(items: list[Item]) -> str:
    for item in items:
        if "\n" in item.text:
            raise ValueError(f"a prompt of {item.source} has several lines; give its file `blocks`")
    return "".join(item.text + "\n" for item in items)


def _blocks(items: list[Item]) -> str:
    return "---\n".join(item.text + "\n" for item in items)


def _json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _stamp(item: Item) -> str:
    return item.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
