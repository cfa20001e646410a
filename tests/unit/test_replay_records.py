"""The record a row becomes, or the reason it becomes none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.dataset import BadLine, PromptFile, Row
from schemas.ids import prompt_id_of_line
from schemas.limits import RECORD_BYTES_MAX, TEXT_BYTES_MAX
from streams.engine.ports import Record
from streams.prompts import ingest
from streams.prompts.replay_records import Outgoing, _NoSchemas, record_of

SHA = "ab" * 32
FILE = PromptFile(Path("folder/tickets.csv"), "csv", tenant="of-the-package")


def made(fields: dict[str, Any], *, tenant: str = "", file: PromptFile = FILE) -> Outgoing:
    record = record_of(Row(3, fields), file, SHA, tenant=tenant)
    assert isinstance(record, Outgoing), record
    return record


def test_a_row_without_an_id_gets_that_of_its_place_in_the_file() -> None:
    assert json.loads(made({"text": "x"}).value)["id"] == prompt_id_of_line(SHA, 3)
    assert json.loads(made({"text": "x", "id": ""}).value)["id"] == prompt_id_of_line(SHA, 3)


@pytest.mark.parametrize(("given", "sent"), [("a-1", "a-1"), (17, "17"), (0, "0")])
def test_an_id_of_the_client_is_kept_as_text(given: object, sent: str) -> None:
    assert json.loads(made({"text": "x", "id": given}).value)["id"] == sent


def test_the_tenant_is_the_one_given_else_the_rows_else_the_packages_else_the_default() -> None:
    plain = PromptFile(Path("a.txt"), "txt")
    assert made({"text": "x", "tenant": "row"}, tenant="given").tenant == "given"
    assert made({"text": "x", "tenant": "row"}).tenant == "row"
    assert made({"text": "x"}).tenant == "of-the-package"
    assert made({"text": "x"}, file=plain).tenant == "default"


def test_a_row_that_names_no_source_comes_from_its_file() -> None:
    assert json.loads(made({"text": "x"}).value)["source"] == "tickets.csv"
    assert json.loads(made({"text": "x", "source": "crm"}).value)["source"] == "crm"


def test_a_lone_surrogate_is_sent_as_it_was_written_and_mended_by_the_reader() -> None:
    value = made({"text": "half \ud83d a face"}).value
    assert b"\\ud83d" in value
    prompt = ingest.decode(Record("prompts", 0, 0, 1_800_000_000_000, None, value), _NoSchemas())
    assert prompt.text == "half \ufffd a face"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"text": ""},
        {"text": " \n "},
        {"text": 7},
        {"text": "x" * (TEXT_BYTES_MAX + 1)},
        {"text": "x", "messages": [{"role": "user", "content": "y"}]},
        {"messages": [{"role": "two words", "content": "y"}]},
        {"text": "x", "tenant": "t" * 101},
        {"text": "x", "id": True},
        {"text": "x", "usage": {"prompt_tokens": "many"}},
        {"text": "x", "unknown": "y" * RECORD_BYTES_MAX},
    ],
)
def test_a_row_that_would_be_a_dead_letter_is_a_bad_line(fields: dict[str, Any]) -> None:
    bad = record_of(Row(3, fields), FILE, SHA)
    assert isinstance(bad, BadLine)
    assert bad.number == 3
    assert bad.reason
