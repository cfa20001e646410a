"""Another app on the engine: how often each word comes, counted exactly once however often its workers are killed.

    lines --splitting--> words --counting [counts]--> word-counts

    python -m infra.examples.word_counter FILE [--bootstrap HOST:PORT]

Reads FILE into `lines`, counts, and prints the most frequent words; without --bootstrap on a broker of its own.
Everything the engine asks of an app is here: topics that exist, handlers that take a unit, a table, and the
partition of each record that is sent. Workers of one app id share its partitions.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
from confluent_kafka import Producer

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from infra.embedded import start
from schemas.topics import DAY_MS, Topic
from streams.engine.engine import Engine
from streams.engine.partitioning import partition_of
from streams.engine.ports import NullObserver, Unit
from streams.engine.settings import EngineSettings
from streams.settings import KafkaSettings, load

PARTITIONS = 4
WORD = re.compile(r"\w+")
WORDS_SHOWN = 10
NAMES = ("lines", "words", "word-counts", "dead-letters")


class WordCounter:
    """The app. `on_counted` is told, once it is committed, how many more words are counted."""

    def __init__(self, bootstrap: str, app_id: str, on_counted: Callable[[int], None] = lambda _: None) -> None:
        self._topics = {name: f"{app_id}-{name}" for name in NAMES}
        self._kafka = KafkaSettings(bootstrap_servers=bootstrap, partitions=PARTITIONS)

        class Counted(NullObserver):
            def count(self, _name: str, amount: float, _labels: Mapping[str, str]) -> None:
                on_counted(int(amount))

        self.engine = Engine(
            EngineSettings(app_id=app_id),
            aiokafka_configuration(self._kafka),
            partitions=PARTITIONS,
            dead_letters=self._topics["dead-letters"],
            observer=Counted(),
        )
        self.counts = self.engine.table("counts", owner=self._topics["words"])
        self.engine.stage("splitting", self._topics["lines"], self._split)
        self.engine.stage("counting", self._topics["words"], self._count)

    def create_topics(self) -> None:
        """Make the topics: the engine does not, because their settings are the operator's business."""
        plain = [Topic(name, "word", "text", public=False, retention_ms=DAY_MS) for name in self._topics.values()]
        Admin(self._kafka).create(
            [*plain, *self.engine.changelog_topics()], partitions=PARTITIONS, replication_factor=1
        )

    def feed(self, lines: Iterable[str]) -> int:
        """Send lines; return how many words are in them."""
        producer = Producer({"bootstrap.servers": self._kafka.bootstrap_servers, "enable.idempotence": True})
        words = 0
        for number, line in enumerate(lines):
            producer.produce(self._topics["lines"], line.encode(), partition=number % PARTITIONS)
            words += len(WORD.findall(line))
        producer.flush()
        return words

    def most_frequent(self, amount: int) -> list[tuple[str, int]]:
        """Return the words that came most often, of the partitions this process has."""
        rows = [(word, int(row)) for number in range(PARTITIONS) for word, row in self.counts.items(number)]
        return sorted(rows, key=lambda row: (-row[1], row[0]))[:amount]

    async def _split(self, unit: Unit) -> None:
        for record in unit.records:
            for word in WORD.findall((record.value or b"").decode().lower()):
                # All of a word go to one partition, so that one worker counts them.
                unit.send(self._topics["words"], word.encode(), partition=partition_of(word, PARTITIONS))

    async def _count(self, unit: Unit) -> None:
        for record in unit.records:
            word = (record.value or b"").decode()
            count = int(self.counts.get(word) or b"0") + 1
            self.counts.put(word, b"%d" % count)
            unit.send(self._topics["word-counts"], b"%d" % count, partition=unit.partition, key=record.value)
        unit.count("words", len(unit.records))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--bootstrap", default="", help="A broker that runs already; empty = an embedded one for this run.")
def main(file: Path, bootstrap: str) -> None:
    """Count the words of FILE."""
    if bootstrap:
        count(file, bootstrap)
        return
    with tempfile.TemporaryDirectory() as folder, start(Path(folder), load().cache_dir, postgres=False) as embedded:
        count(file, embedded.addresses.bootstrap_servers)


def count(file: Path, bootstrap: str) -> None:
    """Work until every word of a file is counted, and print the most frequent ones."""
    left = 0

    def counted(words: int) -> None:
        nonlocal left
        left -= words
        if left <= 0:
            for word, amount in app.most_frequent(WORDS_SHOWN):
                click.echo(f"{amount:7,} {word}")
            app.engine.stop()

    app = WordCounter(bootstrap, f"word-counter-{uuid.uuid4().hex[:8]}", counted)
    app.create_topics()
    left = app.feed(file.read_text(errors="replace").splitlines())
    if left:
        app.engine.run()


if __name__ == "__main__":
    main()
