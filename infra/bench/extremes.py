"""What streams at the edge of what is allowed cost: time for a prompt, memory, and how large the state grows.

`python -m infra.bench.extremes [--only values] [--prompts 1000000]` sends each stream through clustering and
canonicalization of one tenant, in a process of its own, beside an ordinary stream of the same number of prompts:

    ordinary    twenty templates, drawn alike
    one-offs    prompts that resemble no other
    values      one template, whose slot never holds the same value twice
    longest     prompts of nearly 256 KiB, one template with a document in its slot
    one family  nine of ten prompts are of one template
    chimeras    every second prompt is put together of sentences of two other templates

Times are the thread's own CPU time. Rows are taken as at the end of a unit: what that costs is told apart, as the mean
for a prompt, and is not in the other times. The state is all rows, as the changelogs hold them; memory is the most the
process ever had, its libraries and the keys and sizes of all rows included.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np

from infra.bench.generated import DIMENSION, NOT_MODERATED, TENANT, UNIT_PROMPTS, Vector, prompt_of
from schemas.limits import TEXT_BYTES_MAX
from streams.engine import collector
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.policy import Policy

TEMPLATES = 20
STREAMS = {  # and how many prompts make each interesting
    "ordinary": 20_000,
    "one-offs": 10_000,
    "values": 1_000_000,
    "longest": 200,
    "one family": 100_000,
    "chimeras": 20_000,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stream cost. Times in milliseconds of CPU."""

    stream: str
    prompts: int
    per_s: float
    p99_ms: float
    longest_ms: float
    rows_ms: float
    clusters: int
    events: int
    state_kib: int
    memory_mib: int


class Texts:
    """Templates of four sentences, and what can be made of them; a pure function of the seed."""

    def __init__(self, seed: int = 3) -> None:
        self._chance = random.Random(seed)  # noqa: S311  bench data, not secrets
        self._words = [
            "".join(self._chance.choices("abcdefghiklmnoprstu", k=size)) for size in range(2, 11) for _ in range(300)
        ]
        self._templates = [[self.sentence(15) for _ in range(4)] for _ in range(TEMPLATES)]
        self._centres = np.random.default_rng(seed).normal(size=(TEMPLATES, DIMENSION)).astype(np.float32)
        self._noise = np.random.default_rng(seed + 1).normal(size=(997, DIMENSION)).astype(np.float32)

    def stream(self, name: str, count: int) -> Iterator[tuple[str, Vector]]:
        """Yield `count` texts, each with its vector."""
        for number in range(count):
            template = self._chance.randrange(TEMPLATES)
            if name == "one-offs":
                yield " ".join(self.sentence(15) for _ in range(4)), self._near(None, number)
            elif name == "values":
                yield self._filled(0, f"{number:x}-{self._chance.getrandbits(40):x}"), self._near(0, number)
            elif name == "longest":
                document = self.sentence(TEXT_BYTES_MAX // 6)[: TEXT_BYTES_MAX - 2_000]
                yield self._filled(0, document), self._near(0, number)
            elif name == "one family":
                of = 0 if number % 10 else template
                yield self._filled(of, self.sentence(8)), self._near(of, number)
            elif name == "chimeras" and number % 2:
                other = self._templates[(template + 1 + number % (TEMPLATES - 1)) % TEMPLATES]
                parts = [*self._templates[template][:2], self.sentence(8), *other[2:]]
                yield " ".join(parts), self._near(template, number)
            else:
                yield self._filled(template, self.sentence(8)), self._near(template, number)

    def sentence(self, words: int) -> str:
        return " ".join(self._chance.choices(self._words, k=words)) + "."

    def _filled(self, template: int, value: str) -> str:
        first, second, third, last = self._templates[template]
        return f"{first} {second} {value} {third} {last}"

    def _near(self, template: int | None, number: int) -> Vector:
        noise = self._noise[number % len(self._noise)]
        vector = noise if template is None else self._centres[template] + np.float32(0.3) * noise
        unit: Vector = vector / np.linalg.norm(vector)
        return unit


def cost_of(stream: str, count: int) -> Cost:
    """Send one stream through both rooms."""
    grouping = clustering.Clustering(TENANT, Policy(), "generated", DIMENSION)
    templates = canonicalization.Canonicalization(TENANT, canonicalization.Policy())
    seconds = np.zeros(count)
    rows_seconds = 0.0
    state: dict[tuple[str, str], int] = {}
    events = 0
    collector.tame()  # as a worker does
    for number, (text, vector) in enumerate(Texts().stream(stream, count)):
        prompt = prompt_of(number, text)
        start = time.thread_time()
        (arrival,) = arrivals([(prompt, NOT_MODERATED)], [vector])
        for step in grouping.add(arrival):
            events += len(templates.apply(step).events)
        seconds[number] = time.thread_time() - start
        if number % UNIT_PROMPTS == UNIT_PROMPTS - 1 or number == count - 1:
            start = time.thread_time()
            rows = [*grouping.dirty(), *templates.dirty()]
            rows_seconds += time.thread_time() - start
            for table, key, row in rows:
                if row is None:
                    state.pop((table, key), None)
                else:
                    state[table, key] = len(row)
    return Cost(
        stream,
        count,
        per_s=count / float(seconds.sum()),
        p99_ms=float(np.percentile(seconds, 99)) * 1_000,
        longest_ms=float(seconds.max()) * 1_000,
        rows_ms=rows_seconds / count * 1_000,
        clusters=sum(table == "centroids" for table, _ in state),
        events=events,
        state_kib=sum(state.values()) // 1024,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


@click.command()
@click.option("--only", type=click.Choice(list(STREAMS)), multiple=True, help="These streams; else all of them.")
@click.option("--prompts", type=click.IntRange(min=100), help="Of each stream; else as many as make it interesting.")
def main(only: tuple[str, ...], prompts: int | None) -> None:
    """Measure what extreme streams cost."""
    click.echo("stream        prompts  prompts/s  p99 ms  longest ms  rows ms  clusters  events  state KiB  memory MiB")
    for stream in only or STREAMS:
        # A process each: what one stream needs is not hidden by what the one before it left.
        with multiprocessing.get_context("spawn").Pool(1) as process:
            cost = process.apply(cost_of, (stream, prompts or STREAMS[stream]))
        click.echo(
            f"{cost.stream:11} {cost.prompts:9,} {cost.per_s:10,.0f} {cost.p99_ms:7.2f} {cost.longest_ms:11.1f} "
            f"{cost.rows_ms:8.3f} {cost.clusters:9,} {cost.events:7,} {cost.state_kib:10,} {cost.memory_mib:11,}"
        )


if __name__ == "__main__":
    main()
