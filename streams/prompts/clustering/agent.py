"""prompts-embedded --> [centroids, signatures, members, waiting, recent_ids] --> prompts-clustered

State      Five tables on the tenant's partition (`rows.py`); engines in memory are caches of them.
Output     ClusteredFrames on the same partition: for each prompt its first assignment, then the changes and moves
           it gave rise to, in the order they were decided. An id used for another text goes to the dead letters alone.
Guarantee  Exactly once inside Kafka: rows, frames and offset commit together. A unit that fails leaves no engine behind
           that knows more than the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConflictingDuplicate, UndecodableRecord
from schemas.prompts import ClusteredFrame, ClusteredStep, EmbeddedFrame
from schemas.topics import PROMPTS_CLUSTERED, PROMPTS_EMBEDDED
from streams.engine import frames
from streams.engine.ports import Handler, Piece, Record, Split, StateView, Table, Unit, WriterSchemas
from streams.engine.tenant_cache import Row, TenantCache
from streams.prompts import ingest
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.rows import FORMAT, TABLES

STAGE = "clustering"
# Kept prompts held by all engines of a worker, at up to 10 KB each with sketch and indexes: about 1 GB.
KEPT_PROMPTS_MAX = 100_000
STEP_BYTES = 1_200  # decision, reasoning and ids of a step, beside its prompt


class Engine(Protocol):
    """What this room needs of the engine."""

    def stage(self, name: str, source_topic: str, handler: Handler, *, split: Split | None = None) -> object: ...

    def table(self, name: str, *, owner: str, row_format: int = 1) -> Table: ...

    def views(self, topic: str) -> StateView: ...


def attach(engine: Engine, *, policy: Policy, schemas: WriterSchemas) -> None:
    """Attach the stage that groups prompts into clusters."""
    source = PROMPTS_EMBEDDED.name
    tables = {name: engine.table(name, owner=source, row_format=FORMAT) for name in TABLES}

    def build(tenant: str, rows: list[Row], embedder: str, dimension: int) -> Clustering:
        return Clustering(tenant, policy, embedder, dimension, rows)

    tenants = TenantCache(tables, engine.views(source), build, KEPT_PROMPTS_MAX)

    async def cluster(unit: Unit) -> None:
        received = [frame for record in unit.records for frame in await _frames(unit, record, schemas)]
        try:
            for embedder, steps in _decide(unit, tenants, received):
                for batch in frames.batches(steps, _step_bytes):
                    frame = ClusteredFrame(embedder=embedder, steps=tuple(batch))
                    unit.send(PROMPTS_CLUSTERED.name, frames.encode(frame), partition=unit.partition)
        except BaseException:
            tenants.forget(unit.partition)
            raise

    engine.stage(STAGE, source, cluster, split=_pieces)


def _decide(
    unit: Unit, tenants: TenantCache[Clustering], received: list[EmbeddedFrame]
) -> Iterator[tuple[str, list[ClusteredStep]]]:
    """Yield (embedder, steps) of each frame, with the rows of all its tenants written."""
    touched: dict[str, None] = {}
    for frame in received:
        steps: list[ClusteredStep] = []
        prompts = [(moderated.prompt, moderated.moderation) for moderated in frame.prompts]
        for arrival in arrivals(prompts, _vectors(frame)):
            tenant = arrival.prompt.tenant
            engine = tenants.engine(unit.partition, tenant, frame.embedder, frame.dimension)
            engine.check_embedder(frame.embedder)
            touched[tenant] = None
            try:
                steps += engine.add(arrival)
            except ConflictingDuplicate as error:
                ingest.refuse(unit, ingest.as_received(arrival.prompt), error, stage=STAGE)
        yield frame.embedder, steps
    for tenant in touched:
        tenants.write(unit.partition, tenant)
    tenants.shrink()


async def _frames(unit: Unit, record: Record, schemas: WriterSchemas) -> list[EmbeddedFrame]:
    """Return the frame in a record; a broken one goes to the dead letters."""
    try:
        return [await frames.read(EmbeddedFrame, record.value, schemas)]
    except UndecodableRecord as error:
        unit.dead_letter(record, error, stage=STAGE)
        return []


def _pieces(record: Record) -> Sequence[Piece]:
    """Return each prompt of a frame as a frame of its own, and as it was received."""
    frame = frames.decode(EmbeddedFrame, record.value or b"")
    pieces = []
    for moderated, vector in zip(frame.prompts, _vectors(frame), strict=True):
        alone = frame.model_copy(update={"vectors": vector.tobytes(), "prompts": (moderated,)})
        part = replace(record, value=frames.encode(alone))
        pieces.append(Piece(part, ingest.as_received(moderated.prompt), ingest.DEAD_LETTERED))
    return pieces


def _vectors(frame: EmbeddedFrame) -> NDArray[np.float32]:
    return np.frombuffer(frame.vectors, dtype="<f4").reshape(len(frame.prompts), frame.dimension)


def _step_bytes(step: ClusteredStep) -> int:
    return STEP_BYTES + (frames.prompt_bytes(step.assignment.prompt) if step.assignment else 0)
