"""Files of prompts: every format and encoding is read as a stream, and no bad line stops a file."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dataset import BadLine, PromptFile, Row, find, read, sha256_of
from connectors.dataset.formats import JSON_COLUMNS, PLAIN_COLUMNS, USAGE_TYPES
from connectors.dataset.json_elements import RESTARTS_MAX, Cutter
from connectors.dataset.lines import LINE_CHARS_MAX
from schemas.errors import InputError
from schemas.prompts import PromptSubmitted, Usage

EURO_UMLAUT = "Fünf € für Ådne"


def rows_of(path: Path, **hints: str) -> list[Row | BadLine]:
    (file,) = find(path, encoding=hints.get("encoding", ""))
    return list(read(file))


def texts_of(path: Path, **hints: str) -> list[Any]:
    return [row.fields.get("text") if isinstance(row, Row) else row for row in rows_of(path, **hints)]


def written(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize(("name", "content"), [("a.txt", "plain\n{}\n"), ("a.csv", "text\nplain\n{}\n")])
def test_text_and_csv_tell_their_encoding_by_themselves(tmp_path: Path, encoding: str, name: str, content: str) -> None:
    path = written(tmp_path, name, content.format(EURO_UMLAUT), encoding)
    assert texts_of(path) == ["plain", EURO_UMLAUT]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", '{"text": "x"}\n{"text": "%s"}\n'), ("a.json", '[{"text": "x"},\n{"text": "%s"}]')],
)
def test_json_tells_its_encoding_by_its_byte_order_mark(tmp_path: Path, encoding: str, name: str, content: str) -> None:
    assert texts_of(written(tmp_path, name, content % EURO_UMLAUT, encoding)) == ["x", EURO_UMLAUT]


def test_an_encoding_named_by_the_caller_is_believed(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", json.dumps({"text": EURO_UMLAUT}, ensure_ascii=False), "cp1252")
    assert texts_of(path, encoding="cp1252") == [EURO_UMLAUT]
    assert isinstance(texts_of(path)[0], BadLine)


def test_an_encoding_nobody_knows_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no encoding 'utf-9'"):
        find(written(tmp_path, "a.txt", "x"), encoding="utf-9")


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_one_broken_byte_costs_one_line_of_a_utf8_file(tmp_path: Path, name: str) -> None:
    lines = ["text", "erster Gruß", "zweiter Gruß", "kaputt \ufffd", "letzter Gruß"][0 if name == "a.csv" else 1 :]
    path = written(tmp_path, name, "\n".join(lines).encode().replace("\ufffd".encode(), b"\xff"))
    found = texts_of(path)
    assert found[:2] == ["erster Gruß", "zweiter Gruß"]
    assert isinstance(found[2], BadLine)
    assert "not utf-8" in found[2].reason
    assert found[3:] == ["letzter Gruß"]


def test_half_a_character_of_utf16_costs_its_line_only(tmp_path: Path) -> None:
    content = "eins\n".encode("utf-16") + b"\x00\xd8" + "zwei\ndrei\n".encode("utf-16-le")
    first, second, third = texts_of(written(tmp_path, "a.txt", content))
    assert (first, third) == ("eins", "drei")
    assert isinstance(second, BadLine)


def test_a_compressed_file_is_read_like_any_other(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl.gz", gzip.compress(b'{"text": "x"}\n'))
    assert texts_of(path) == ["x"]


def test_a_damaged_compressed_file_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    content = gzip.compress("".join(json.dumps({"text": f"{n} {n**9}"}) + "\n" for n in range(9_000)).encode())
    *rows, last = rows_of(written(tmp_path, "a.jsonl.gz", content[: len(content) // 2]))
    assert len(rows) > 1_000
    assert isinstance(last, BadLine)
    assert "damaged" in last.reason


# --- JSON Lines and JSON


def test_bad_json_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    lines = ['{"text": "one"}', "", "{broken", '"a string"', "[1]", "null", '{"text": "two"}']
    numbers = {row.number: row for row in rows_of(written(tmp_path, "a.jsonl", "\r\n".join(lines)))}
    assert {number for number, row in numbers.items() if isinstance(row, Row)} == {1, 7}
    assert {number for number, row in numbers.items() if isinstance(row, BadLine)} == {3, 4, 5, 6}


def test_a_line_too_long_for_any_prompt_costs_itself_only(tmp_path: Path) -> None:
    content = '{"text": "a"}\n' + "x" * (2 * LINE_CHARS_MAX + 5) + '\n{"text": "b"}\n'
    first, second, third = texts_of(written(tmp_path, "a.jsonl", content))
    assert (first, third) == ("a", "b")
    assert "longer than" in second.reason
    assert len(second.excerpt) <= 1_000


def test_a_lone_surrogate_escape_is_left_for_the_decoder_to_mend(tmp_path: Path) -> None:
    assert texts_of(written(tmp_path, "a.jsonl", '{"text": "x \\ud800 y"}\n')) == ["x \ud800 y"]


@pytest.mark.parametrize("name", ["prompt", "content", "input", "instruction", "question", "query"])
def test_the_text_may_have_the_name_other_tools_give_it(tmp_path: Path, name: str) -> None:
    assert texts_of(written(tmp_path, "a.jsonl", json.dumps({name: "hello"}))) == ["hello"]


def test_messages_are_not_mistaken_for_a_missing_text(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}], "input": "other"}
    (found,) = rows_of(written(tmp_path, "a.jsonl", json.dumps(row)))
    assert isinstance(found, Row)
    assert found.fields == row


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a"}, {"text": "b"}]',
        '[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n',
        '{"text": "a"}\n{"text": "b"}\n',
        '{"text": "a"}{"text": "b"}',
        '  \n[{"text":"a"},{"text":"b"},]',
    ],
)
def test_a_json_file_is_an_array_or_one_object_after_the_other(tmp_path: Path, content: str) -> None:
    assert texts_of(written(tmp_path, "a.json", content)) == ["a", "b"]


@pytest.mark.parametrize(
    "broken",
    ['{"text": }', '{"text": "x"', '{"text": "x', '{"text": "x"}}', "nonsense", '{"text": "x" "y"}', "17", '"}"'],
)
def test_a_broken_element_of_an_array_costs_itself_only(tmp_path: Path, broken: str) -> None:
    path = written(tmp_path, "a.json", f'[\n{{"text": "a"}},\n{broken},\n{{"text": "b"}},\n{{"text": "c"}}\n]\n')
    first, bad, *others = texts_of(path)
    assert first == "a"
    assert isinstance(bad, BadLine)
    assert "line 3" in bad.reason
    assert others == ["b", "c"]


def test_a_broken_element_costs_its_line_wherever_the_chunks_are_cut() -> None:
    text = '[{"text": "a"},\n{"text": ]},{"text": "lost with its line"},\n{"text": "b"},\n{"text": "c"}]'
    for chunk in range(1, len(text)):
        cutter, found, stream = Cutter(), [], io.StringIO(text)
        while part := stream.read(chunk):
            found += cutter.feed(part)
        found += cutter.finish()
        assert [json.loads(element.text)["text"] for element in found if not element.problem] == ["a", "b", "c"]
        assert [element.line for element in found] == [1, 2, 3, 4]


def test_an_open_string_does_not_hold_back_what_follows_it() -> None:
    cutter = Cutter()
    found = list(cutter.feed('[\n{"text": "open},\n{"text": "a, b"},\n{"text": "c, d"},\n'))
    assert [element.text for element in found if not element.problem][-1] == '{"text": "c, d"}'


def test_elements_that_share_a_line_have_numbers_of_their_own(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, "a.json", '[{"text": "a"}, {"text": "b"}, {"text": "c"}]'))
    assert [row.number for row in rows] == [1, 2, 3]


def test_a_file_of_open_brackets_is_given_up_after_a_while(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, "a.json", '{"a": [\n' * 5_000))
    assert len(rows) == RESTARTS_MAX + 1
    assert "left out" in rows[-1].reason  # type: ignore[union-attr]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


JSON_OBJECTS = st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4)


@given(st.lists(JSON_OBJECTS, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9))
def test_an_array_is_cut_into_the_objects_it_was_made_of(
    values: list[object], indent: int | None, ascii_only: bool, chunk: int
) -> None:
    text = io.StringIO(json.dumps(values, indent=indent, ensure_ascii=ascii_only))
    cutter, found = Cutter(), []
    while part := text.read(chunk):
        found += cutter.feed(part)
    found += cutter.finish()
    assert [json.loads(element.text) for element in found] == values
    assert not any(element.problem for element in found)


@given(st.integers(0, 8), st.integers(0, 60), st.sampled_from(["", *'{}[]",:']), st.integers(0, 60), st.integers(1, 99))
def test_damage_inside_one_line_loses_no_other_element(
    place: int, at: int, inserted: str, removed: int, chunk: int
) -> None:
    rows = [f'{{"text": "number {number}, with [brackets] and {{braces}}", "n": [{number}]}}' for number in range(9)]
    damaged = rows[place][:at] + inserted + rows[place][at + removed :]
    stream = io.StringIO("[\n" + ",\n".join([*rows[:place], damaged, *rows[place + 1 :]]) + "\n]\n")
    cutter, found = Cutter(), []
    while part := stream.read(chunk):
        found += cutter.feed(part)
    found += cutter.finish()
    assert {*rows[:place], *rows[place + 1 :]} <= {element.text for element in found if not element.problem}


# --- CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_told_from_the_header(tmp_path: Path, delimiter: str) -> None:
    path = written(tmp_path, "a.csv", f"id{delimiter}Prompt\n7{delimiter}hello\n")
    (row,) = rows_of(path)
    assert isinstance(row, Row)
    assert row.fields == {"id": "7", "text": "hello"}


def test_a_cell_may_hold_lines_quotes_and_delimiters(tmp_path: Path) -> None:
    first, second = rows_of(written(tmp_path, "a.csv", 'text\r\n"two\r\nlines, ""quoted"""\r\nnext\r\n'))
    assert isinstance(first, Row)
    assert first.fields == {"text": 'two\r\nlines, "quoted"'}
    assert (first.number, second.number) == (2, 4)


def test_csv_columns_become_the_fields_of_a_prompt(tmp_path: Path) -> None:
    header = "text,usage.model,usage.prompt_tokens,usage.cost_usd,licence,messages,tenant"
    (row,) = rows_of(written(tmp_path, "a.csv", f"{header}\nhi,small,12,0.5,MIT,,\n"))
    assert isinstance(row, Row)
    usage = {"model": "small", "prompt_tokens": 12, "cost_usd": 0.5}
    assert row.fields == {"text": "hi", "usage": usage, "metadata": {"licence": "MIT"}}


def test_the_columns_known_to_csv_are_the_fields_of_a_prompt() -> None:
    assert set(PromptSubmitted.model_fields) == PLAIN_COLUMNS | JSON_COLUMNS | {"usage"}
    assert set(Usage.model_fields) == set(USAGE_TYPES)


@pytest.mark.parametrize(
    ("row", "reason"),
    [("a,b,c", "3 cells under 2 columns"), ("x,many", "usage.prompt_tokens"), ('"a"b,1', "not CSV")],
)
def test_a_bad_csv_row_is_named_and_the_others_read(tmp_path: Path, row: str, reason: str) -> None:
    first, bad, last = texts_of(written(tmp_path, "a.csv", f"text,usage.prompt_tokens\none,1\n{row}\ntwo,2\n"))
    assert (first, last) == ("one", "two")
    assert reason in bad.reason
    assert bad.number == 3


def test_a_quote_that_is_never_closed_costs_its_line_only(tmp_path: Path) -> None:
    lines = ["text", "one", '"never closed', "two", '"three\nlines"', "four"]
    found = texts_of(written(tmp_path, "a.csv", "\n".join(lines) + "\n"))
    # The open quote is closed by the next one, which makes both rows unreadable, but nothing behind them.
    assert found[0] == "one"
    assert found[-1] == "four"
    assert "two" in found
    assert any(isinstance(row, BadLine) and row.number == 3 for row in found)


def test_csv_without_a_text_column_says_what_it_looked_for(tmp_path: Path) -> None:
    (bad,) = rows_of(written(tmp_path, "a.csv", "name,age\nAda,36\n"))
    assert isinstance(bad, BadLine)
    assert "text, prompt" in bad.reason


# --- plain text


def test_a_text_file_has_one_prompt_a_line_and_skips_blank_ones(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, "a.txt", " one \r\n\r\n   \ntwo -- 2"))
    assert [(row.number, row.fields["text"]) for row in rows if isinstance(row, Row)] == [(1, " one "), (4, "two -- 2")]


def test_lines_of_three_dashes_part_prompts_of_several_lines(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, "a.txt", "a\nb\n---\n\n---\nc\n\nd\n"))
    assert [(row.number, row.fields["text"]) for row in rows if isinstance(row, Row)] == [(1, "a\nb"), (6, "c\n\nd")]


def test_an_endless_block_costs_itself_only(tmp_path: Path) -> None:
    content = "a\n---\n" + ("x" * 999 + "\n") * (LINE_CHARS_MAX // 900) + "---\nb\n"
    first, second, third = texts_of(written(tmp_path, "a.txt", content))
    assert (first, third) == ("a", "b")
    assert "block of more than" in second.reason


# --- folders


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.jsonl", "sub/c.csv", "notes.md"):
        written(tmp_path, name, "text\n")
    assert [file.path.name for file in find(tmp_path)] == ["a.jsonl", "b.txt", "c.csv"]


def test_a_data_package_says_what_the_files_are(tmp_path: Path) -> None:
    written(tmp_path, "z.data", EURO_UMLAUT + "\n", "cp1252")
    written(tmp_path, "a.txt", "not in the package\n")
    resource = {"path": "z.data", "format": "txt", "encoding": "cp1252", "tenant": "acme"}
    written(tmp_path, "datapackage.json", json.dumps({"resources": [resource]}))
    (file,) = find(tmp_path)
    assert file == PromptFile(tmp_path / "z.data", "txt", "cp1252", "", "acme")
    assert find(tmp_path / "z.data") == [file]
    assert [found.path.name for found in find(tmp_path / "a.txt")] == ["a.txt"]


@pytest.mark.parametrize(
    "package",
    [
        "{",
        "[]",
        '{"resources": [{}]}',
        '{"resources": [{"path": "../x.txt"}]}',
        '{"resources": [{"path": "gone.txt"}]}',
    ],
)
def test_a_data_package_that_cannot_be_used_is_refused_with_a_reason(tmp_path: Path, package: str) -> None:
    written(tmp_path, "datapackage.json", package)
    with pytest.raises(InputError, match=r"datapackage\.json"):
        find(tmp_path)


def test_a_folder_without_prompts_is_an_error_that_says_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find(tmp_path)
    assert ".jsonl" in caught.value.hint


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "abc")
    (file,) = find(path)
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- memory


@pytest.mark.parametrize("form", ["jsonl", "json", "minified.json", "csv", "txt", "blocks.txt"])
def test_a_large_file_is_never_held_in_memory(tmp_path: Path, form: str) -> None:
    rows = 20_000
    path = tmp_path / f"large.{form}"
    with path.open("w", encoding="utf-8", newline="") as out:
        out.write({"csv": "text\n", "json": "[\n", "minified.json": "["}.get(form, ""))
        for number in range(rows):
            text = f"{number} " + "word " * 100
            ends = {"json": ",\n", "minified.json": ",", "blocks.txt": "\n---\n"}
            row = json.dumps({"text": text}) if "json" in form else f"{text}, \nx" if form == "blocks.txt" else text
            out.write(row + (ends.get(form, "\n") if number < rows - 1 or "json" not in form else ""))
        out.write("]" if form in ("json", "minified.json") else "\n")
    assert path.stat().st_size > 10_000_000
    (file,) = find(path)
    tracemalloc.start()
    try:
        count = sum(isinstance(row, Row) for row in read(file))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == rows
    assert peak < 3_000_000
