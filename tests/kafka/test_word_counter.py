"""The example app on a real broker: its counts are those of a dictionary, also over a restart."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.examples.word_counter import WordCounter, main
from tests.kafka.chain import until

pytestmark = pytest.mark.kafka

TEXT = (Path(__file__).parent.parent.parent / "LICENSE").read_text()
WORDS = Counter(re.findall(r"\w+", TEXT.lower()))


async def test_its_counts_are_those_of_a_dictionary_also_over_a_restart(bootstrap: str) -> None:
    name = f"words-{uuid.uuid4().hex[:8]}"
    for times in (1, 2):
        counted: list[int] = []
        app = WordCounter(bootstrap, name, counted.append)
        await asyncio.to_thread(app.create_topics)
        sent = await asyncio.to_thread(app.feed, TEXT.splitlines())
        async with app.engine.running():
            await until(lambda counted=counted, sent=sent: sum(counted) >= sent)  # type: ignore[misc]
            assert dict(app.most_frequent(len(WORDS) + 1)) == {word: times * count for word, count in WORDS.items()}


def test_it_runs_as_the_readme_says(bootstrap: str, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("the cat and the dog and the bird\n")
    shown = CliRunner().invoke(main, [str(file), "--bootstrap", bootstrap], catch_exceptions=False)
    assert shown.output.split() == ["3", "the", "2", "and", "1", "bird", "1", "cat", "1", "dog"]
