"""Streams of prompts for the tests of clustering, and a feed that keeps what an engine answers and writes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from connectors.embedders.wordllama import DIMENSION, WordllamaEmbedder
from schemas.prompts import Assignment, ClusterChange, ClusterChangeKind, ClusteredStep, Prompt
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.shingles import Shingles
from tests.wire import MODERATION

TENANT = "acme"
EMBEDDER = "test"
Row = tuple[str, str, bytes]

NAMES = ("Ada", "Bo", "Chidi", "Dora", "Emre", "Farah", "Goran", "Hana", "Igor", "Juno", "Kofi", "Lena")
SORTS = (
    "leaking",
    "silver",
    "second-hand",
    "oak",
    "woollen",
    "blue",
    "cracked",
    "folding",
    "tiny",
    "painted",
    "French",
    "rusty",
    "heavy",
    "spare",
    "striped",
    "borrowed",
)
THINGS = (
    "kettle",
    "boots",
    "bicycle lamp",
    "rucksack",
    "drawing paper",
    "stool",
    "pullover",
    "atlas",
    "radio",
    "sweet peas",
    "jam jars",
    "chessboard",
    "ladder",
    "umbrella",
    "teapot",
    "mandolin",
)
PLACES = (
    "Lima",
    "the attic",
    "Oslo",
    "a flea market",
    "Porto",
    "her uncle",
    "the fair",
    "Accra",
    "platform two",
    "Turin",
    "next door",
    "the old mill",
    "Basel",
    "a catalogue",
    "Dakar",
    "the north",
)
REPLY = (
    "You answer mail for a small shop. The customer {name} ordered {thing} and is not happy. "
    "Write a polite reply of at most ninety words and offer a refund."
)
CATALOGUE = "Describe {thing} for the spring catalogue in three short lines, then name a price that ends in 99."
RECIPE = "Act as the cook of a ferry. {name} brought {thing} aboard: invent a dish named after it, with quantities."
REPORT = "Summarise the meeting of {name} and {other} on {thing}.\nList open points first.\nUse the past tense."
ROUTE = "Plan a walk for {name} that starts at the harbour, passes {number} bridges and ends before noon."
TEMPLATES = (REPLY, CATALOGUE, RECIPE, REPORT, ROUTE)
ONE_OFFS = (
    "why do cats knead blankets?",
    "Regex for a Danish postcode, no lookbehind.",
    "sort a list of tuples by their second item in Rust",
    "My grandmother's cardigan shrank in the wash. Can felted wool be stretched again?",
    "haiku on rust",
    "Which year did Portugal join the EEC, and who signed?",
    "Explain eigenvectors to somebody who only knows geometry from carpentry.",
    "fix: TypeError cannot unpack non-iterable NoneType object in line 12",
    "Compare heat pumps and gas boilers over twenty years in a stone house",
    "Is it rude to leave chopsticks upright in rice?",
)


def filled(template: str, count: int, *, seed: int = 1) -> list[str]:
    """Return texts filled from one template, with values that differ."""
    chance = random.Random(f"{seed} {template}")  # noqa: S311  test data, not secrets
    return [
        template.format(
            name=chance.choice(NAMES),
            other=chance.choice(NAMES),
            thing=f"{chance.choice(SORTS)} {chance.choice(THINGS)} from {chance.choice(PLACES)}",
            number=chance.randint(2, 999),
        )
        for _ in range(count)
    ]


def interleaved(*streams: Sequence[str], seed: int = 1) -> list[str]:
    """Return all texts in one order drawn by the seed."""
    texts = [text for stream in streams for text in stream]
    random.Random(seed).shuffle(texts)  # noqa: S311  test data, not secrets
    return texts


def busy_stream() -> list[str]:
    """Return some 300 prompts of five templates, with one-offs among them."""
    return interleaved(*(filled(template, 58) for template in TEMPLATES), ONE_OFFS)


def turbulent_stream() -> list[str]:
    """Return some 300 prompts that make clusters come, go and change places: short templates, relatives."""
    service = "Please {verb} the service {{name}} on host {{number}} and report when {{thing}} is ready."
    note = "Translate the note for {{name}} into formal {tone}, keep every number, and mention {{thing}} at the end."
    # A seed under which every kind of change happens; the first test on these streams says so when one stops.
    services = [filled(service.format(verb=verb), 40, seed=3) for verb in ("start", "stop")]
    notes = [filled(note.format(tone=tone), 30, seed=3) for tone in ("French", "Dutch")]
    mixed = interleaved(*notes, filled(REPLY, 30), ONE_OFFS, seed=3)
    return [
        *interleaved(*services, seed=3),
        *filled(CATALOGUE, 30),
        *mixed,
        *filled(ROUTE, 60),
        *filled(CATALOGUE, 10, seed=2),
    ]


def reshaped_stream() -> list[str]:
    """Return some 200 prompts that make clusters merge and split: fragments of a template, and siblings."""
    article = "Read the article below and answer in one sentence, citing nothing.\nArticle: {text}\nQuestion: {ask}"
    stories = [" ".join(filled("{name} saw {thing}.", 12, seed=seed)) for seed in range(40)]
    asks = [f"How did {text}?" for text in filled("{name} come by {thing}", 60, seed=5)]
    hot = [article.format(text=stories[number // 8], ask=asks[number]) for number in range(16)]
    varied = [article.format(text=stories[2 + number], ask=asks[16 + number]) for number in range(36)]
    notice = (
        "You write for {{name}}'s newsletter. Given the item {{thing}}, {task} in no more than eighty words, "
        "keep the price, and {ending} before you finish. Never mention other shops, and sign as the owner."
    )
    tasks = (
        ("describe what it was used for", "check the year it was made twice"),
        ("praise how well it was kept", "invite the reader to come and see it"),
    )
    siblings = [filled(notice.format(task=task, ending=ending), 30, seed=4) for task, ending in tasks]
    return [*hot, *interleaved(varied, *siblings, filled(ROUTE, 40), seed=2), *filled(CATALOGUE, 50)]


def a_prompt(number: int, text: str, *, prompt_id: str = "", tenant: str = TENANT) -> Prompt:
    return Prompt(
        prompt_id=prompt_id or f"p{number}",
        tenant=tenant,
        text=text,
        source="test",
        created_at_ms=1_700_000_000_000 + number,
        received_at_ms=1_700_000_000_500 + number,
        partition=3,
        offset=number,
    )


@cache
def embedder() -> WordllamaEmbedder:
    return WordllamaEmbedder()


def an_arrival(number: int, text: str, vector: NDArray[np.float32] | None = None, *, tenant: str = TENANT) -> Kept:
    """Return a prompt prepared to be placed, with the real embedding of its text unless another is given."""
    (arrival,) = arrivals(
        [(a_prompt(number, text, tenant=tenant), MODERATION)], [vector_of(text) if vector is None else vector]
    )
    return arrival


@cache
def vector_of(text: str) -> NDArray[np.float32]:
    """Return the real embedding of a text."""
    (vector,) = embedder().encode([text])
    return np.asarray(vector, dtype=np.float32)


def clustering(policy: Policy | None = None, rows: Iterable[Row] = (), *, name: str = EMBEDDER) -> Clustering:
    return Clustering(TENANT, policy or Policy(), name, DIMENSION, rows)


def array(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(numbers), dtype=np.int64)


def shingles(of: Iterable[int]) -> Shingles:
    return Shingles(array(sorted(of)))


class Feed:
    """Feeds an engine; keeps its steps, and its rows as the tables would hold them."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.engine = clustering(self.policy)
        self.steps: list[ClusteredStep] = []
        self.stored: dict[tuple[str, str], bytes] = {}
        self.fed = 0

    def feed(self, texts: Iterable[str], *, write_each: bool = False) -> list[ClusteredStep]:
        """Add prompts and return what they gave rise to; write the rows after each one, or when all are in."""
        before = len(self.steps)
        for text in texts:
            self.steps += self.engine.add(an_arrival(self.fed, text))
            self.fed += 1
            if write_each:
                self.write()
        self.write()
        return self.steps[before:]

    def write(self) -> None:
        for table, key, row in self.engine.dirty():
            if row is None:
                self.stored.pop((table, key), None)
            else:
                self.stored[table, key] = row

    def rebuild(self) -> None:
        """Let the engine go and build it from the rows."""
        self.engine = clustering(self.policy, self.rows())

    def rows(self) -> list[Row]:
        return [(table, key, row) for (table, key), row in self.stored.items()]

    def keys(self, table: str) -> set[str]:
        return {key for (of, key) in self.stored if of == table}

    def clusters(self) -> list[str | None]:
        """Return the current cluster of each prompt, in the order they were fed."""
        return current(self.steps, self.fed)


def assignments(steps: Iterable[ClusteredStep]) -> list[Assignment]:
    return [step.assignment for step in steps if step.assignment is not None]


def changes(steps: Iterable[ClusteredStep], kind: ClusterChangeKind | None = None) -> list[ClusterChange]:
    return [step.change for step in steps if step.change is not None and kind in (None, step.change.kind)]


def current(steps: Iterable[ClusteredStep], count: int) -> list[str | None]:
    """Return what a reader of the steps believes: the newest assignment, with mergers followed."""
    where: dict[str, str | None] = {}
    for step in steps:
        if step.assignment is not None and not step.assignment.duplicate:
            where[step.assignment.prompt.prompt_id] = step.assignment.cluster_id
        elif step.change is not None and step.change.kind is ClusterChangeKind.MERGED:
            gone = step.change.other_cluster_ids
            where = {prompt: step.change.cluster_id if home in gone else home for prompt, home in where.items()}
    return [where[f"p{number}"] for number in range(count)]


def fingerprint() -> str:
    """Return a digest of every answer and every row of the busy stream."""
    feed = Feed()
    feed.feed(busy_stream())
    digest = hashlib.sha256()
    for step in feed.steps:
        digest.update(step.model_dump_json().encode())
    for table, key, row in sorted(feed.rows()):
        digest.update(f"{table} {key} ".encode() + row)
    return digest.hexdigest()
