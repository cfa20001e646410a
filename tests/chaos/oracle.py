"""What the rooms make of the recorded prompts when nothing disturbs them.

The agents are the real ones, run in this process on an engine without a broker (`tests/fakes.py`), with the
moderator and the embedder the workers were given. Units are cut at random, quite unlike those of the workers: no
answer may depend on how.

    prompts            as recorded        -> moderated, rejected, letters
    prompts-rejected   as recorded        -> strikes
    prompts-moderated  from the oracle    -> embedded, letters
    prompts-embedded   as recorded        -> clustered, tables, letters
    prompts-clustered  from the oracle    -> canonicalized, events, templates, tables

Two topics are taken as recorded because partitions meet in them: which of two prompts of a tenant comes first there
is the run's to decide, once. What is in them is checked against the oracle all the same.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from schemas.topics import (
    PROMPTS,
    PROMPTS_CLUSTERED,
    PROMPTS_EMBEDDED,
    PROMPTS_MODERATED,
    PROMPTS_REJECTED,
)
from streams.engine.ports import Piece, Record
from streams.prompts import ingest, topology
from streams.prompts.canonicalization.logic import Policy as CanonicalizationPolicy
from streams.prompts.clustering.policy import Policy as ClusteringPolicy
from streams.prompts.moderation.logic import Policy as ModerationPolicy
from streams.prompts.worker import embedder_of, moderator_of
from streams.settings import Settings
from tests.chaos.harvest import Harvest
from tests.chaos.poison import plugged
from tests.fakes import DeadLetter, FakeEngine, FakeTable, FakeUnit, NoSchemas, Sent

UNIT_RECORDS_MAX = 300


@dataclass(slots=True)
class Undisturbed:
    """What every unit sent, by topic and then partition, in order; the dead letters; the tables at the end."""

    sent: dict[str, dict[int, list[Sent]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    letters: list[DeadLetter] = field(default_factory=list)
    tables: dict[str, FakeTable] = field(default_factory=dict)


def attached(settings: Settings, *, poison: bool = False) -> FakeEngine:
    """Return an engine with every agent attached, as a worker with these settings has it."""
    engine = FakeEngine()
    topology.build(engine, parts_of(settings, poison=poison))  # type: ignore[arg-type]  # what the rooms need of an engine, it has
    return engine


async def undisturbed(engine: FakeEngine, recorded: Harvest, seed: int) -> Undisturbed:
    """Run every stage once over the whole of its input."""
    outcome = Undisturbed(tables=engine.tables)
    chance = random.Random(f"oracle {seed}")

    async def run(stage: str, inputs: dict[int, list[Record]], passed_on: str = "") -> dict[int, list[Record]]:
        outputs: dict[int, list[Record]] = defaultdict(list)
        for number in sorted(inputs):
            for records in _cut(inputs[number], chance):
                async for unit in _applied(engine, outcome, stage, records):
                    _keep(outcome, unit)
                    outputs[number] += engine.records_of(unit, passed_on, partition=number)
        return outputs

    moderated = await run("moderation", recorded.records[PROMPTS.name], PROMPTS_MODERATED.name)
    await run("strikes", recorded.records[PROMPTS_REJECTED.name])
    await run("embedding", moderated)
    clustered = await run("clustering", recorded.records[PROMPTS_EMBEDDED.name], PROMPTS_CLUSTERED.name)
    await run("canonicalization", clustered)
    return outcome


def parts_of(settings: Settings, *, poison: bool) -> topology.Parts:
    """Return what a worker with these settings gives its agents; all writers of frames are this program."""
    moderation = settings.moderation
    moderator, embedder = plugged(settings) if poison else (moderator_of(settings), embedder_of(settings))
    return topology.Parts(
        read=partial(ingest.read, schemas=NoSchemas()),
        schemas=NoSchemas(),
        moderator=moderator,
        embedder=embedder,
        moderation=ModerationPolicy(
            moderation.policy_version, moderation.threshold, moderation.thresholds, moderation.tenants
        ),
        clustering=ClusteringPolicy(),
        canonicalization=CanonicalizationPolicy(),
        partitions=settings.kafka.partitions,
    )


async def _applied(
    engine: FakeEngine, outcome: Undisturbed, stage: str, records: Sequence[Record]
) -> AsyncIterator[FakeUnit]:
    """Yield the unit of some records; where the stage raises, those of each record, or of each piece of one, alone."""
    partition = records[0].partition
    try:
        yield await engine.run(stage, records, partition=partition)
        return
    except Exception as error:  # noqa: BLE001  whatever a bug raises
        cut = engine.splits.get(stage) if len(records) == 1 else None
        pieces = cut(records[0]) if cut else ()
        if len(records) == 1 and not pieces:
            outcome.letters.append(DeadLetter(records[0], error, stage))
            return
    for piece in pieces or [Piece(record, record) for record in records]:
        try:
            yield await engine.run(stage, [piece.record], partition=partition)
        except Exception as error:  # noqa: BLE001
            if pieces:
                outcome.letters.append(DeadLetter(piece.letter, error, stage))
                continue
            async for unit in _applied(engine, outcome, stage, [piece.record]):
                yield unit


def _cut(records: Sequence[Record], chance: random.Random) -> Iterator[Sequence[Record]]:
    at = 0
    while at < len(records):
        size = chance.randint(1, UNIT_RECORDS_MAX)
        yield records[at : at + size]
        at += size


def _keep(outcome: Undisturbed, unit: FakeUnit) -> None:
    for sent in unit.sent:
        outcome.sent[sent.topic][sent.partition].append(sent)
    outcome.letters += unit.dead_letters
