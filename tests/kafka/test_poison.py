"""Prompts that make a stage fail, beside services that fail: each costs only itself, and every prompt is accounted for.

The stages are the real ones on a real broker. They are attached through `Stumbling`, which lets the handler do its
work and then raises, so that everything it did has to be undone.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from connectors.kafka.client import aiokafka_configuration, confluent_configuration
from infra.embedded import start
from schemas.errors import ServiceUnavailable
from schemas.prompts import CanonicalizedFrame, ClusteredFrame, ClusteredStep
from schemas.topics import (
    DEAD_LETTERS,
    ERROR_HEADER_PREFIX,
    PROMPTS,
    PROMPTS_CANONICALIZED,
    PROMPTS_CLUSTERED,
    PROMPTS_EMBEDDED,
)
from streams.engine import frames
from streams.engine.engine import Engine
from streams.engine.metrics import Metrics
from streams.engine.ports import Handler, Record, Split, StateView, Table, Unit
from streams.prompts import ingest, topology
from streams.prompts.canonicalization.logic import Policy as CanonicalizationPolicy
from streams.prompts.clustering import agent as clustering
from streams.prompts.clustering.policy import Policy as ClusteringPolicy
from streams.prompts.moderation.logic import Policy as ModerationPolicy
from streams.prompts.worker import embedder_of, moderator_of, prepare
from streams.settings import Settings, load
from tests.fakes import FakeEngine, NoSchemas
from tests.kafka.chain import until

pytestmark = pytest.mark.kafka

PARTITIONS = 2
STAGES = ("moderation", "embedding", "clustering", "canonicalization")
SERVICE_FAILS_SHARE = 0.15  # of the attempts


class Stumbling:
    """An engine whose handlers fail when they are done, for certain prompts or because a service is away."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._chance = random.Random(seed)  # noqa: S311  it only decides which attempt fails
        self.failed: Counter[str] = Counter()

    def stage(self, name: str, source_topic: str, handler: Handler, *, split: Split | None = None) -> None:
        async def stumble(unit: Unit) -> None:
            await handler(unit)
            if self._chance.random() < SERVICE_FAILS_SHARE:
                self.failed["service"] += 1
                raise ServiceUnavailable("asking the gateway: no answer")
            if any(f"poison for {name}.".encode() in (record.value or b"") for record in unit.records):
                self.failed[name] += 1
                raise KeyError("a bug")

        self._engine.stage(name, source_topic, stumble, split=split)

    def table(self, name: str, *, owner: str, row_format: int = 1) -> Table:
        return self._engine.table(name, owner=owner, row_format=row_format)

    def views(self, topic: str) -> StateView:
        return self._engine.views(topic)


@asynccontextmanager
async def stumbling(settings: Settings, metrics: Metrics, seed: int) -> AsyncIterator[Stumbling]:
    """Run the whole pipeline of agents in this process."""
    engine = Engine(
        settings.engine,
        aiokafka_configuration(settings.kafka),
        partitions=settings.kafka.partitions,
        dead_letters=DEAD_LETTERS.name,
        dead_letter_header_prefix=ERROR_HEADER_PREFIX,
        observer=metrics,
    )
    stumbler = Stumbling(engine, seed)
    parts = topology.Parts(
        read=partial(ingest.read, schemas=NoSchemas()),
        schemas=NoSchemas(),
        moderator=moderator_of(settings),
        embedder=embedder_of(settings),
        moderation=ModerationPolicy("1", 2.0),  # nothing is rejected
        clustering=ClusteringPolicy(),
        canonicalization=CanonicalizationPolicy(),
        partitions=PARTITIONS,
    )
    topology.build(stumbler, parts)  # type: ignore[arg-type]  # what the rooms need of an engine, it has
    await prepare(settings, engine)
    async with engine.running():
        yield stumbler


def submissions() -> dict[str, str]:
    """Return texts by id: a template, and poison for every stage; one frame's worth of nothing but poison."""
    texts = {f"good-{number}": f"Tell me in {number % 7 + 2} sentences why {number} is odd." for number in range(120)}
    for stage in STAGES:
        texts |= {f"{stage}-{number}": f"Number {number} is poison for {stage}." for number in range(3)}
    return texts


def poisoned(stage: str) -> dict[str, str]:
    return {f"only-{stage}-{number}": f"Only number {number} is poison for {stage}." for number in range(9)}


async def test_poison_costs_only_itself_in_every_stage_while_services_fail_too(tmp_path: Path) -> None:
    with start(tmp_path / "data", load().cache_dir, postgres=False) as services:
        kafka = load().kafka.model_copy(
            update={"bootstrap_servers": services.addresses.bootstrap_servers, "partitions": PARTITIONS}
        )
        settings = load(data_dir=tmp_path / "data", kafka=kafka)
        metrics = Metrics("promptloom", topology.COUNTERS)
        sent: dict[str, str] = {}
        async with stumbling(settings, metrics, seed=1) as stumbler:
            # Each group is one batch, so that its prompts meet in frames.
            for group in (submissions(), poisoned("embedding"), poisoned("clustering"), poisoned("canonicalization")):
                sent |= group
                await asyncio.to_thread(produce, settings, group)
                await until(partial(all_ended, metrics, len(sent)))
        assert ended(metrics) == outcomes(metrics)["received"] == len(sent)
        assert min(stumbler.failed[name] for name in ("service", *STAGES)) > 0
        assert_letters(read(settings, DEAD_LETTERS.name), sent)
        assert_answers(read(settings, PROMPTS_CANONICALIZED.name), sent)
        await assert_clustered_as_without_poison(settings)


def assert_letters(letters: Iterable[Message], sent: dict[str, str]) -> None:
    """Check that each poisonous prompt, and no other, is there once, as it was sent, with where it failed."""
    found = {}
    for letter in letters:
        said = {name.rpartition(".")[2]: value.decode() for name, value in letter.headers() or ()}
        name, text = refused(letter.value() or b"", said["topic"])
        if name:
            assert name not in found
            assert (text, said["exception"]) == (sent[name], "KeyError")
            found[name] = said["stage"]
    assert found == {name: stage for name in sent for stage in STAGES if stage in name}


def refused(value: bytes, topic: str) -> tuple[str, str]:
    """Return id and text of the prompt in a letter; empty ones for a move of a prompt that has its answer."""
    if topic == PROMPTS.name:
        body = json.loads(value)
        return body["id"], body["text"]
    assert topic == PROMPTS_CLUSTERED.name
    (step,) = frames.decode(ClusteredFrame, value).steps
    assert step.assignment is not None
    prompt = step.assignment.prompt
    return (prompt.prompt_id, prompt.text) if step.assignment.sequence == 0 else ("", "")


def assert_answers(records: Iterable[Message], sent: dict[str, str]) -> None:
    decided = [item.assignment for record in records for item in decode(record).prompts]
    first = Counter(link.prompt.prompt_id for link in decided if link.sequence == 0)
    assert first == Counter(name for name in sent if name.startswith("good"))


async def assert_clustered_as_without_poison(settings: Settings) -> None:
    """Check that a worker that never saw the poison decides the same, however its units are cut."""
    engine = FakeEngine()
    clustering.attach(engine, policy=ClusteringPolicy(), schemas=NoSchemas())
    expected: list[ClusteredStep] = []
    split = engine.splits[clustering.STAGE]
    for message in read(settings, PROMPTS_EMBEDDED.name):
        record = Record(PROMPTS_EMBEDDED.name, message.partition() or 0, 0, 0, None, message.value())
        healthy = [p.record for p in split(record) if b"poison for clustering." not in (p.record.value or b"")]
        for piece in healthy:
            unit = await engine.run(clustering.STAGE, [piece], partition=record.partition)
            expected += steps(sent.value for sent in unit.sent_to(PROMPTS_CLUSTERED.name))
    assert steps(message.value() for message in read(settings, PROMPTS_CLUSTERED.name)) == expected


def steps(values: Iterable[bytes | None]) -> list[ClusteredStep]:
    return [step for value in values for step in frames.decode(ClusteredFrame, value or b"").steps]


def decode(message: Message) -> CanonicalizedFrame:
    return frames.decode(CanonicalizedFrame, message.value() or b"")


def all_ended(metrics: Metrics, count: int) -> bool:
    return ended(metrics) >= count


def ended(metrics: Metrics) -> int:
    """Return how many prompts the metrics say have ended somewhere."""
    return sum(count for outcome, count in outcomes(metrics).items() if outcome != "received")


def outcomes(metrics: Metrics) -> dict[str, int]:
    return {
        sample.labels["outcome"]: int(sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "promptloom_prompts_total"
    }


def produce(settings: Settings, texts: dict[str, str]) -> None:
    producer = Producer(confluent_configuration(settings.kafka) | {"linger.ms": 100})
    for name, text in texts.items():
        fields: dict[str, Any] = {"id": name, "tenant": "loom", "text": text}
        producer.produce(PROMPTS.name, json.dumps(fields).encode(), partition=0)
    assert producer.flush(30) == 0


def read(settings: Settings, topic: str) -> list[Message]:
    """Return what is committed in a topic, partitions ascending."""
    options = {"group.id": "observer", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(confluent_configuration(settings.kafka) | options)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    found: dict[int, list[Message]] = {number: [] for number in range(PARTITIONS)}
    ends = 0
    while ends < PARTITIONS:
        for message in consumer.consume(500, 0.5):
            if message.error():
                ends += 1
            else:
                found[message.partition() or 0].append(message)
    consumer.close()
    return [message for number in sorted(found) for message in found[number]]
