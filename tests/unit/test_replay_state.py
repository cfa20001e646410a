"""What a replay remembers: how far a file is settled, and what was bad in it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from connectors.dataset import BadLine
from streams.prompts.replay_state import EXCERPT_CHARS_MAX, Checkpoint, Checkpoints, Report, Window, excerpt

SHA = "ab" * 32


def checkpoints(folder: Path, *, cluster_id: str = "c", topic: str = "prompts", tenant: str = "") -> Checkpoints:
    return Checkpoints(folder, cluster_id=cluster_id, topic=topic, tenant=tenant)


def test_a_file_nobody_replayed_starts_at_its_beginning(tmp_path: Path) -> None:
    assert checkpoints(tmp_path).load(Path("a.txt"), SHA) == Checkpoint("a.txt")


def test_a_checkpoint_is_found_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint("a.txt", settled=7, prompts=5, bad=2, complete=True)
    checkpoints(tmp_path).save(checkpoint, SHA)
    assert checkpoints(tmp_path).load(Path("a.txt"), SHA) == checkpoint


def test_a_checkpoint_is_of_one_content_cluster_topic_and_tenant(tmp_path: Path) -> None:
    checkpoints(tmp_path).save(Checkpoint("a.txt", settled=7), SHA)
    assert checkpoints(tmp_path).load(Path("a.txt"), "cd" * 32).settled == 0
    for scope in ({"cluster_id": "other"}, {"topic": "other"}, {"tenant": "other"}):
        assert checkpoints(tmp_path, **scope).load(Path("a.txt"), SHA).settled == 0


def test_a_checkpoint_that_cannot_be_read_starts_anew(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    store.save(Checkpoint("a.txt", settled=7), SHA)
    (path,) = tmp_path.iterdir()
    for content in (b"", b"[1]", b'{"other": 1}'):
        path.write_bytes(content)
        assert store.load(Path("a.txt"), SHA).settled == 0


@given(st.lists(st.booleans(), max_size=30), st.randoms(use_true_random=False))
def test_a_number_is_settled_once_all_before_it_are(bad: list[bool], random: Random) -> None:
    window = Window(Checkpoint("a.txt"))
    on_the_way: list[int] = []
    settled: set[int] = set()
    for number, is_bad in enumerate(bad, start=1):
        if is_bad:
            window.found_bad(number)
            settled.add(number)
        else:
            window.sent(number)
            on_the_way.append(number)
        while on_the_way and random.random() < 0.5:
            acknowledged = on_the_way.pop(random.randrange(len(on_the_way)))
            window.acknowledged(acknowledged)
            settled.add(acknowledged)
        expected = next((n - 1 for n in range(1, number + 1) if n not in settled), number)
        assert window.settled == expected
        assert window.bad == sum(bad[:expected])
        assert window.prompts == expected - window.bad


def test_a_window_goes_on_counting_where_the_checkpoint_stopped() -> None:
    window = Window(Checkpoint("a.txt", settled=7, prompts=5, bad=2))
    window.sent(9)
    window.acknowledged(9)
    assert (window.settled, window.prompts, window.bad) == (9, 6, 2)


def test_the_report_appears_with_the_first_bad_line(tmp_path: Path) -> None:
    report = Report(tmp_path / "deep" / "bad.jsonl")
    assert not report.path.exists()
    report.add(Path("a.txt"), BadLine(3, "no text", "hello\nworld"))
    report.close()
    row = {"file": "a.txt", "line": 3, "reason": "no text", "excerpt": "hello world"}
    assert json.loads(report.path.read_text()) == row


def test_an_excerpt_is_short_and_holds_no_secret() -> None:
    text = "password: hunter2 and Bearer sk-abcdefghij0123456789 for ada@example.org " + "word " * 100
    shown = excerpt(text)
    assert len(shown) <= EXCERPT_CHARS_MAX
    for secret in ("hunter2", "sk-abc", "ada@"):
        assert secret not in shown
    assert " for [masked] word" in shown


def test_an_excerpt_of_broken_bytes_can_be_written_down() -> None:
    assert excerpt("\udcff broken").encode()
