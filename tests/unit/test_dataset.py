"""The prompts that come with the program: enough, licensed, true, and built by the script in the repository."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.dataset import Row, find, read, sha256_of, shipped
from infra.dataset.build import SLOT, build
from infra.dataset.collect import LICENCES
from infra.dataset.grammar import Grammar
from streams.prompts.replay_records import Outgoing, record_of

ROOT = Path(__file__).parents[2]
DATASET = ROOT / "Dataset"
SIZE_BYTES_MAX = 15_000_000


@cache
def package() -> Any:
    return json.loads((DATASET / "datapackage.json").read_text())


@cache
def truth() -> list[dict[str, Any]]:
    with gzip.open(DATASET / "truth.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@cache
def changes() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATASET / "evolution_truth.jsonl").read_text().splitlines()]


@cache
def sent() -> list[dict[str, Any]]:
    """Return what `promptloom replay` would send."""
    values = []
    for file in find(DATASET):
        sha256 = sha256_of(file)
        for row in read(file):
            assert isinstance(row, Row), row
            record = record_of(row, file, sha256)
            assert isinstance(record, Outgoing), record
            values.append(json.loads(record.value))
    return values


def test_it_comes_with_the_program() -> None:
    assert shipped() == DATASET


def test_there_are_at_least_five_thousand_prompts_in_every_format() -> None:
    assert len(sent()) == sum(resource["prompts"] for resource in package()["resources"]) >= 5_000
    assert {resource["format"] for resource in package()["resources"]} == {"jsonl", "json", "csv", "txt"}
    assert len({resource["encoding"] for resource in package()["resources"]}) >= 4
    assert sum(path.stat().st_size for path in DATASET.rglob("*") if path.is_file()) < SIZE_BYTES_MAX


def test_every_licence_is_one_that_may_be_shipped_and_its_text_is_there() -> None:
    rows = [value["licence"] for value in sent() if "licence" in value]
    columns = [value["metadata"]["licence"] for value in sent() if "licence" in value.get("metadata", {})]
    files = {licence["name"] for resource in package()["resources"] for licence in resource["licenses"]}
    assert set(rows) | set(columns) | files == set(LICENCES)
    for licence in LICENCES:
        assert (DATASET / "LICENSES" / f"{licence}.txt").stat().st_size > 500
    for path in (ROOT / "infra" / "dataset" / "sources").iterdir():
        with path.open(encoding="utf-8") as lines:
            assert {json.loads(line)["licence"] for line in lines} <= set(LICENCES)


def test_every_source_is_named_in_the_readme() -> None:
    readme = (DATASET / "README.md").read_text()
    for resource in package()["resources"]:
        assert f"| {resource['path']} |" in readme
        assert f"{resource['prompts']:,}" in readme
        for source in resource["sources"]:
            assert source["title"].split(" ")[0].rstrip(":") in readme


def test_ids_are_unique_but_for_the_repeats_that_are_declared() -> None:
    repeats = {
        (resource["tenant"], identity) for resource in package()["resources"] for identity in resource["repeated_ids"]
    }
    counts = Counter((value["tenant"], value["id"]) for value in sent())
    assert {identity for identity, count in counts.items() if count > 1} == repeats
    assert len(repeats) >= 10


def test_the_truth_has_every_prompt_once_and_in_order() -> None:
    identities = list(dict.fromkeys((value["tenant"], value["id"]) for value in sent()))
    assert [(row["tenant"], row["id"]) for row in truth()] == identities


def test_a_template_filled_with_its_slots_is_the_text() -> None:
    for row in truth():
        if row["template_id"] is not None:
            values = row["slots"]
            assert SLOT.sub(lambda match, values=values: values[match[1]], row["template"]) == row["text"]


def test_every_family_is_large_enough_to_be_found() -> None:
    families = Counter(row["template_id"] for row in truth() if row["template_id"])
    assert len(families) >= 90
    assert min(families.values()) >= 10


def test_prompts_of_a_file_are_in_the_order_of_time() -> None:
    repeated = {identity for resource in package()["resources"] for identity in resource["repeated_ids"]}
    for tenant in ("support", "marketing", "engineering"):
        stamps = [value["created_at"] for value in sent() if value["tenant"] == tenant and value["id"] not in repeated]
        assert stamps == sorted(stamps)


def test_callers_change_in_every_way_ramping_and_abruptly() -> None:
    assert {change["kind"] for change in changes()} == {"slot_added", "slot_removed", "reworded", "topic_drift"}
    assert {change["transition"] for change in changes()} == {"ramp", "abrupt"}
    for change in changes():
        own = [row for row in truth() if row["lineage_id"] == change["lineage_id"]]
        position = next(index for index, row in enumerate(own) if row["id"] == change["position_id"])
        assert own[position]["version"] == "2"
        assert {row["version"] for row in own[:position]} == {"1"}
        later = {row["version"] for row in own[position:]}
        assert later == ({"1", "2"} if change["transition"] == "ramp" else {"2"})


def test_the_script_builds_the_same_files_again(tmp_path: Path) -> None:
    if version("faker") != package()["faker"]:
        pytest.skip(f"built with Faker {package()['faker']}; another version draws other names")
    build(tmp_path)
    for path in tmp_path.iterdir():
        built, committed = path.read_bytes(), (DATASET / path.name).read_bytes()
        if path.suffix == ".gz":  # compressed differently by another zlib, the content is what counts
            built, committed = gzip.decompress(built), gzip.decompress(committed)
        if path.name != "datapackage.json":
            assert built == committed, f"{path.name} is not what python -m infra.dataset.build writes"


def test_a_rule_may_remember_what_another_drew() -> None:
    rules = {"colour": ("red", "blue"), "pair": ("@{c:=colour} and @{c}",), "of_red": ("rose",), "of_blue": ("sky",)}
    grammar = Grammar(rules, Random(3))  # noqa: S311  reproducible on purpose
    for _ in range(20):
        first, second = grammar.expand("@{pair}", {}).split(" and ")
        assert first == second
        assert grammar.expand("@{c:=colour} @{by c of}", {}) in {"red rose", "blue sky"}


def test_a_list_never_repeats_itself_and_ends_where_there_is_no_more() -> None:
    grammar = Grammar({"colour": ("red", "blue")}, Random(3))  # noqa: S311  reproducible on purpose
    assert sorted(grammar.expand("@{list 5 5 colour}", {}).split(", ")) == ["blue", "red"]
