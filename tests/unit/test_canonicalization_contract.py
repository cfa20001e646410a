"""The contract of a template: its JSON Schema, and prompts checked against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from streams.cli.validate import validate
from streams.prompts.canonicalization.contract import json_schema, problems
from streams.prompts.canonicalization.slots import Sketch, describe
from streams.prompts.canonicalization.template import Template

TEMPLATE = Template(("Mode: ", ", pages: ", ", note: ", ", data: ", "."), ("mode", "pages", "note", "data"))
VALUES = [("fast" if n % 2 else "slow", str(n), "" if n == 3 else f"see {n}", json.dumps({"n": n})) for n in range(8)]


def schema() -> dict[str, Any]:
    columns = list(zip(*VALUES, strict=True))
    sketches = [Sketch() for _ in columns]
    for sketch, column in zip(sketches, columns, strict=True):
        for value in column:
            sketch.add(value)
    return json_schema(TEMPLATE.show(), "1.2.0", describe(TEMPLATE, columns, sketches))


def text(mode: str = "fast", pages: str = "12", note: str = "n/a", data: str = "{}") -> str:
    return f"Mode: {mode}, pages: {pages}, note: {note}, data: {data}."


def test_the_schema_is_one_and_says_what_was_seen() -> None:
    made = schema()
    Draft202012Validator.check_schema(made)
    assert made["properties"]["mode"]["enum"] == ["fast", "slow"]
    assert made["properties"]["note"].get("minLength") is None, "one value was empty"
    assert made["required"] == ["mode", "pages", "note", "data"]
    assert made["x-template"] == "Mode: {{mode}}, pages: {{pages}}, note: {{note}}, data: {{data}}."


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (text(), []),
        (text(note=""), []),
        (text(mode="new", pages="many"), ["mode is none of the values seen", "pages is no integer"]),
        (text(pages=""), ["pages is empty", "pages is no integer"]),
        (text(data="{broken"), ["data is no JSON"]),
        ("Hello", ["does not begin with 'Mode:'"]),
        ("Mode: fast.", ["lacks ', pages:'"]),
        (text() + " And more", ["does not end with '.'"]),
    ],
)
def test_a_prompt_is_checked_against_fixed_parts_and_slots(prompt: str, found: list[str]) -> None:
    assert problems(schema(), prompt) == found


def test_all_prompts_a_template_was_learnt_from_are_valid() -> None:
    assert [problems(schema(), text(*values)) for values in VALUES] == [[]] * len(VALUES)


def test_values_are_not_repeated_in_what_is_said() -> None:
    assert "s3cret" not in "".join(problems(schema(), text(mode="s3cret", pages="s3cret")))


def test_the_command_checks_a_file_and_needs_only_the_schema(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(schema()))
    lines = [json.dumps({"text": text()}), json.dumps({"messages": [{"role": "user", "content": "hi"}]}), ""]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(validate, [str(tmp_path / "schema.json"), str(tmp_path / "prompts.jsonl")])
    assert result.exit_code == 1
    assert result.output.splitlines() == ["line 2: does not begin with 'Mode:'", "1 of 2 prompts are valid"]


def test_the_command_refuses_a_file_that_is_no_schema(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    result = CliRunner().invoke(validate, [str(tmp_path / "other.json"), "-"], input="{}")
    assert result.exit_code == 1
    assert "is no schema of a template" in result.output


def test_the_command_says_when_a_text_file_holds_no_text(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(schema()))
    (tmp_path / "prompt.txt").write_bytes(b"\xff\xfe\x00")
    result = CliRunner().invoke(validate, [str(tmp_path / "schema.json"), str(tmp_path / "prompt.txt")])
    assert result.exit_code == 1
    assert "is no text in UTF-8" in result.output
