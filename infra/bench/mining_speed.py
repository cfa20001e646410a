"""Prompts a second of clustering and canonicalization, apart and together, with few clusters and with many.

`python -m infra.bench.mining_speed [--set promptfamilies] [--clusters 1000 --clusters 100000] [--prompts 20000]` mines
the labelled sets of `infra.bench.quality`, whole and in order, where their data is present (templates are found, learnt
and changed all along), and generated templates of some 500 characters, in two streams:
    young      over all templates, each known from just enough prompts to found its cluster: the clusters still learn,
               are repaired again and again, and most templates are not announced yet
    settled    over templates (at most `SETTLED_TEMPLATES_MAX` of them) that had `SETTLED_MEMBERS` prompts before: what
               a service does most of the time. The other clusters are still there, and still to be told apart from
What comes before a stream is not measured, nor is writing rows: they are taken all along, so that no change stays in
memory. Time is the thread's own CPU time, so that a busy machine counts less. It is
also told as a ratio to two yardsticks of the same run: Drain3, and a plain cosine scan over as many centroids, which is
the least that grouping by meaning does.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig

from connectors.embedders.wordllama import WordllamaEmbedder
from infra.bench.generated import DIMENSION, NOT_MODERATED, TENANT, UNIT_PROMPTS, Vector, prompt_of
from infra.bench.quality.sets import DATA_DEFAULT, SETS, load
from schemas.prompts import ClusteredStep, Prompt
from streams.engine import collector
from streams.native import is_compiled
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.policy import Policy

FOUNDING_PROMPTS = 4  # of each template, before anything is measured
# A cluster has stopped learning by then, its template is announced, and it is repaired when it has grown by a third.
SETTLED_MEMBERS = 96
SETTLED_TEMPLATES_MAX = 1_000  # 100,000 templates with as many prompts each would take hours
PAUSE_MS = 20
VOCABULARY = 20_000
YARDSTICKS = DRAIN, SCAN = "Drain3", "cosine scan"
Item = TypeVar("Item")
Result = TypeVar("Result")


class Traffic:
    """Generated templates, each with three sentences of constants and three slots, and prompts filled from them."""

    def __init__(self, templates: int, seed: int = 5) -> None:
        self._chance = random.Random(seed)  # noqa: S311  bench data, not secrets
        self._words = [self._word() for _ in range(VOCABULARY)]
        self._templates = [[self._sentence(14, 20) for _ in range(3)] for _ in range(templates)]
        draws = np.random.default_rng(seed)
        self._centres = draws.normal(size=(templates, DIMENSION)).astype(np.float32)
        self._noise = draws.normal(size=(997, DIMENSION)).astype(np.float32) * np.float32(0.3)
        self._sent = 0

    def founding(self) -> Iterator[tuple[Prompt, Vector]]:
        for number in range(len(self._templates)):
            for _ in range(FOUNDING_PROMPTS):
                yield self._prompt(number)

    def settling(self, templates: int) -> Iterator[tuple[Prompt, Vector]]:
        for _ in range(SETTLED_MEMBERS):
            for number in range(templates):
                yield self._prompt(number)

    def stream(self, count: int, templates: int) -> list[tuple[Prompt, Vector]]:
        """Half of the prompts from templates drawn alike, half from few that are used a lot."""
        last = templates - 1
        even = [self._chance.randint(0, last) for _ in range(count)]
        heavy = [min(last, int(self._chance.paretovariate(0.7)) - 1) for _ in range(count)]
        return [
            self._prompt(one if self._chance.random() < 0.5 else other) for one, other in zip(even, heavy, strict=True)
        ]

    def _prompt(self, number: int) -> tuple[Prompt, Vector]:
        self._sent += 1
        text = " ".join(f"{part} {self._sentence(4, 18)}" for part in self._templates[number])
        vector = self._centres[number] + self._noise[self._sent % len(self._noise)]
        return prompt_of(self._sent, text), vector / np.linalg.norm(vector)

    def _word(self) -> str:
        syllables = range(self._chance.randint(1, 4))
        return "".join(self._chance.choice("bcdfghklmnprstvw") + self._chance.choice("aeiou") for _ in syllables)

    def _sentence(self, least: int, most: int) -> str:
        return " ".join(self._chance.choices(self._words, k=self._chance.randint(least, most))) + "."


class Line:
    """The measured times of one way of mining."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: list[float] = []

    def time(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do the work and take its time."""
        start = time.thread_time()
        result = work(*arguments)
        self.seconds.append(time.thread_time() - start)
        return result

    def share(self, seconds: float, count: int) -> None:
        """Add time that was spent on the last items together."""
        self.seconds[-count:] = [own + seconds / count for own in self.seconds[-count:]]

    @property
    def rate(self) -> float:
        return len(self.seconds) / max(1e-9, sum(self.seconds))

    def show(self, yardsticks: list[Line]) -> str:
        milliseconds = np.array(self.seconds) * 1_000
        ratios = "  ".join(f"{self.rate / other.rate:6.2f} x {other.name}" for other in yardsticks)
        return (
            f"{self.name:32} {self.rate:9,.0f}/s   p99 {np.percentile(milliseconds, 99):6.2f} ms   "
            f"longest {milliseconds.max():7.1f} ms   over {PAUSE_MS} ms: {(milliseconds > PAUSE_MS).sum():3}   {ratios}"
        )


class Mining:
    """Both engines of one tenant."""

    def __init__(self, dimension: int) -> None:
        self._grouping = clustering.Clustering(TENANT, Policy(), "generated", dimension)
        self._templates = canonicalization.Canonicalization(TENANT, canonicalization.Policy())

    def feed(self, prompts: Iterable[tuple[Prompt, Vector]]) -> None:
        """Mine prompts unmeasured."""
        for unit in batched(prompts, UNIT_PROMPTS):
            for arrival in _arrivals(unit):
                self._apply(self._grouping.add(arrival))
            self._take_rows()

    def measured(self, prompts: Iterable[tuple[Prompt, Vector]]) -> list[Line]:
        """Mine prompts as a worker does: a unit goes through one room, then through the other."""
        one, other, both = Line("clustering"), Line("canonicalization"), Line("both together")
        for unit in batched(prompts, UNIT_PROMPTS):
            prepared = Line("preparing")
            arrived = prepared.time(_arrivals, unit)
            steps = [one.time(self._grouping.add, arrival) for arrival in arrived]
            one.share(prepared.seconds[0], len(unit))
            for of_prompt in steps:
                other.time(self._apply, of_prompt)
            self._take_rows()
        both.seconds = [sum(times) for times in zip(one.seconds, other.seconds, strict=True)]
        return [one, other, both]

    def _apply(self, steps: Iterable[ClusteredStep]) -> None:
        for step in steps:
            self._templates.apply(step)

    def _take_rows(self) -> None:
        """Regard what changed as written, as at the end of a unit."""
        self._grouping.dirty()
        self._templates.dirty()


def _arrivals(unit: Sequence[tuple[Prompt, Vector]]) -> list[Kept]:
    return arrivals([(prompt, NOT_MODERATED) for prompt, _ in unit], [vector for _, vector in unit])


def measure_set(name: str, data: Path) -> Iterator[tuple[str, list[Line]]]:
    """Mine labelled sets of this name; yield what `measure` does, nothing where the data is absent."""
    embedder = WordllamaEmbedder()
    for labelled in load(name, data):
        texts = [row.text for row in labelled.rows]
        vectors = [vector for some in batched(texts, UNIT_PROMPTS) for vector in embedder.encode(some)]
        stream = [(prompt_of(number, text), vectors[number - 1]) for number, text in enumerate(texts, 1)]
        title = f"{labelled.name}, {sum(map(len, texts)) / len(texts):.0f} characters on average"
        yield title, [*Mining(embedder.dimension).measured(stream), _drain(stream)]


def measure(clusters: int, prompts: int) -> Iterator[tuple[str, list[Line]]]:
    """Mine both streams all ways; yield the name of a stream and its lines, yardsticks last."""
    traffic, mining = Traffic(clusters), Mining(DIMENSION)
    mining.feed(traffic.founding())
    young = traffic.stream(prompts, clusters)
    yield f"young, {clusters:,} templates", [*mining.measured(young), _drain(young), _scan(young, clusters)]
    few = min(clusters, SETTLED_TEMPLATES_MAX)
    mining.feed(traffic.settling(few))
    settled = traffic.stream(prompts, few)
    lines = [*mining.measured(settled), _drain(settled), _scan(settled, clusters)]
    yield f"settled, {few:,} of {clusters:,} templates", lines


def _drain(stream: list[tuple[Prompt, Vector]]) -> Line:
    miner = TemplateMiner(config=TemplateMinerConfig())
    return _timed(DRAIN, [prompt.text for prompt, _ in stream], miner.add_log_message)


def _scan(stream: list[tuple[Prompt, Vector]], clusters: int) -> Line:
    centroids = np.random.default_rng(1).normal(size=(clusters, DIMENSION)).astype(np.float32)
    return _timed(SCAN, [vector for _, vector in stream], lambda vector: np.argmax(centroids @ vector))


def _timed(name: str, items: Iterable[Item], work: Callable[[Item], object]) -> Line:
    line = Line(name)
    for item in items:
        line.time(work, item)
    return line


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items in lists of so many; the last one may be shorter."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


@click.command()
@click.option(
    "--set", "sets", multiple=True, type=click.Choice(SETS), default=("dataset", "promptfamilies"), show_default=True
)
@click.option("--data", type=click.Path(path_type=Path), default=DATA_DEFAULT, help="Folder of sets not shipped.")
@click.option("--clusters", multiple=True, default=(1_000, 100_000), show_default=True, help="How many templates.")
@click.option("--prompts", default=20_000, show_default=True, help="How many generated prompts are measured.")
def main(sets: tuple[str, ...], data: Path, clusters: tuple[int, ...], prompts: int) -> None:
    """Measure how fast templates are mined."""
    collector.tame()  # as a worker does
    click.echo("the rooms run as machine code" if is_compiled() else "the rooms run as plain Python: make setup")
    streams = [measure_set(name, data) for name in sets] + [measure(count, prompts) for count in clusters]
    for title, lines in chain.from_iterable(streams):
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
        click.echo(f"{title}: {len(lines[0].seconds):,} prompts, {memory:,.0f} MB at most so far")
        yardsticks = [line for line in lines if line.name in YARDSTICKS]
        for line in lines:
            click.echo(f"  {line.show([other for other in yardsticks if other is not line])}")


if __name__ == "__main__":
    main()
