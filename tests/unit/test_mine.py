"""`promptloom mine`: the stream's logic over a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from click.testing import CliRunner

from schemas.limits import RECORD_BYTES_MAX
from streams.cli.mine import mine
from streams.prompts.canonicalization.logic import Reading
from streams.prompts.canonicalization.template import fill
from streams.prompts.mine import EXAMPLE_CHARS_MAX, Miner, Summary, lines_of
from tests.canonical import letters

DIMENSION = 16


class HashedSpace:
    """A vector space without weights: the same text has the same direction, and that is all."""

    name = "hashed"
    dimension = DIMENSION

    def encode(self, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        rows = [np.random.default_rng(xxhash.xxh64_intdigest(text.encode())).normal(size=DIMENSION) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def a_file(folder: Path, lines: list[str], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    content = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def mined(path: Path) -> tuple[Miner, list[dict[str, Any]]]:
    space = HashedSpace()
    miner = Miner(path, space, space.encode)
    list(miner.learn())
    return miner, list(miner.predictions())


# Long enough that its constants alone found a cluster; the vectors of this test mean nothing.
TEMPLATE = (
    "You are an assistant who writes letters on behalf of a small travel agency.\n"
    "Write a {tone} letter to our customer in {city} and mention that we offer help with {topic}, please.\n"
    "Do not invent prices, and sign with the name of the agency."
)


def texts(count: int) -> list[str]:
    return letters(count, template=TEMPLATE)


def prompts(count: int = 40) -> list[str]:
    return [json.dumps({"id": f"p{n}", "text": text}) for n, text in enumerate(texts(count))]


def test_every_prompt_gets_a_line_whose_template_filled_is_its_text(tmp_path: Path) -> None:
    lines = prompts()
    _, predictions = mined(a_file(tmp_path, lines))
    assert [row["id"] for row in predictions] == [json.loads(line)["id"] for line in lines]
    for row, line in zip(predictions, lines, strict=True):
        assert row["cluster_id"] is not None
        assert fill(row["template"], row["slots"]) == json.loads(line)["text"]
    assert len({row["template"] for row in predictions}) == 1


def test_bad_lines_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    bad = ["{", '{"text": ""}', '{"text": 5}', "[1]", '{"id": "x"}']
    miner, predictions = mined(a_file(tmp_path, [*prompts(20), *bad, *prompts(20)[:1]]))
    assert miner.summary.bad_lines == 5
    assert [line for line, _ in miner.summary.problems] == [21, 22, 23, 24, 25]
    assert len(predictions) == 21


def test_a_repeated_id_counts_once_and_shares_its_answer(tmp_path: Path) -> None:
    lines = prompts(30)
    miner, predictions = mined(a_file(tmp_path, [*lines, lines[4]]))
    assert miner.summary.duplicates == 1
    assert predictions[-1] == predictions[4]


def test_an_id_used_for_another_text_is_refused_and_stays_alone(tmp_path: Path) -> None:
    other = json.dumps({"id": "p4", "text": "quite another text"})
    miner, predictions = mined(a_file(tmp_path, [*prompts(30), other]))
    assert miner.summary.refused == 1
    assert predictions[-1]["cluster_id"] is None


def test_chats_and_files_without_ids_and_gzip_are_read(tmp_path: Path) -> None:
    lines = [
        json.dumps({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]})
        for text in texts(30)
    ]
    _, predictions = mined(a_file(tmp_path, lines, "chat.jsonl.gz"))
    assert len({row["id"] for row in predictions}) == 30
    assert all("<|system|>\nBe brief.\n<|user|>\nYou are an assistant" in row["template"] for row in predictions)


def test_mining_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = a_file(tmp_path, prompts(60))
    assert mined(path)[1] == mined(path)[1]


@pytest.mark.parametrize("moderate", [False, True])
def test_the_command_writes_both_files_and_says_whether_it_moderated(tmp_path: Path, moderate: bool) -> None:
    path = a_file(tmp_path, prompts(40))
    arguments = [str(path), "--out", str(tmp_path / "out.jsonl"), "--events", str(tmp_path / "events.jsonl")]
    result = CliRunner().invoke(mine, [*arguments, "--moderate"] if moderate else arguments)
    assert result.exit_code == 0, result.output
    assert ("not moderated" in result.output) is not moderate
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert list(event) == [
        "type", "prompt_id", "cluster_id", "family_id", "previous_version", "new_version", "reason", "diff",
    ]  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {tuple(row) for row in rows} == {("id", "cluster_id", "family_id", "template", "slots", "version", "raw")}


@pytest.mark.parametrize("begins", [b"\x00\x00\x00\x00\x01", b"\xc3\x01aaaaaaaa", b"\xff\xfe", b"\x80"])
def test_a_line_of_bytes_that_are_no_json_is_a_bad_line_and_no_more(tmp_path: Path, begins: bytes) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(begins + b" junk\n" + "\n".join(prompts(20)).encode())
    miner, predictions = mined(path)
    assert [line for line, _ in miner.summary.problems] == [1]
    assert len(predictions) == 20


def test_of_a_damaged_gzip_what_stands_before_the_damage_is_mined(tmp_path: Path) -> None:
    path = a_file(tmp_path, prompts(400), "prompts.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-200])
    miner, predictions = mined(path)
    assert 0 < len(predictions) == miner.summary.prompts < 400
    ((line, problem),) = miner.summary.problems
    assert line == len(predictions) + 1
    assert "damaged" in problem


def test_problems_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    conflicts = [json.dumps({"id": "p4", "text": f"quite another text {n}"}) for n in range(50)]
    miner, _ = mined(a_file(tmp_path, [*prompts(30), *conflicts]))
    assert miner.summary.refused == 50
    assert len(miner.summary.problems) == 20


def test_the_templates_come_once_each_the_largest_first_on_the_screen_and_in_their_file(tmp_path: Path) -> None:
    other = (
        "You check the minutes that the secretary of a rowing club has written about its meetings.\n"
        "The club that met is called {city}, the mood there was {tone}, and what they spoke about was {topic}.\n"
        "List every decision with who is to carry it out, and leave out what was only said in passing."
    )
    lines = prompts(40) + [json.dumps({"text": text}) for text in letters(20, template=other)]
    path, found = a_file(tmp_path, lines), tmp_path / "templates.jsonl"
    result = CliRunner().invoke(mine, [str(path), "--out", str(tmp_path / "out.jsonl"), "--templates", str(found)])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    assert [row["prompts"] for row in rows] == [40, 20]
    last_texts = [json.loads(lines[place])["text"] for place in (39, 59)]
    assert [fill(row["template"], row["example"]) for row in rows] == last_texts
    places = [result.output.index(row["cluster_id"][:8]) for row in rows]
    assert places == sorted(places)


def test_a_cluster_is_shown_with_its_newest_template_whoever_came_last() -> None:
    summary = Summary()
    for version, raw in (("1.9.0", False), ("1.10.0", False), ("1.9.0", False), (None, False), ("2.0.0", True)):
        summary.read("c", Reading(f"{{{{x}}}} of {version}", {"x": "y" * 9_000}, version, None, raw))
    (found,) = summary.largest()
    assert (found.prompts, found.version, found.template) == (5, "1.10.0", "{{x}} of 1.10.0")
    assert len(found.example["x"]) == EXAMPLE_CHARS_MAX


def test_a_line_longer_than_any_record_is_a_bad_line_that_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"x" * (2 * RECORD_BYTES_MAX + 7) + b"\n" + "\n".join(prompts(20)).encode())
    assert next(len(line) for _, line in lines_of(path, lambda _: None)) == RECORD_BYTES_MAX + 1
    miner, predictions = mined(path)
    assert [line for line, _ in miner.summary.problems] == [1]
    assert len(predictions) == 20


@pytest.mark.parametrize("option", ["--out", "--events", "--templates"])
def test_the_command_refuses_to_write_over_its_input(tmp_path: Path, option: str) -> None:
    path = a_file(tmp_path, prompts(40))
    before = path.read_bytes()
    files = {"--out": "out.jsonl", "--events": "events.jsonl", option: "../" + tmp_path.name + "/" + path.name}
    result = CliRunner().invoke(mine, [str(path), *(part for o, f in files.items() for part in (o, str(tmp_path / f)))])
    assert result.exit_code == 2
    assert "given twice" in result.output
    assert path.read_bytes() == before


def test_the_command_says_at_once_that_a_file_cannot_be_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(mine, [str(a_file(tmp_path, prompts(1))), "--out", str(tmp_path / "absent" / "out")])
    assert result.exit_code == 1
    assert "No such file or directory" in result.output
