"""prompts-clustered --> [templates, families] --> prompts-canonicalized, evolution-events, templates

State      Two tables on the tenant's partition (`rows.py`); what stands in memory is a cache of them.
Output     CanonicalizedFrames on the same partition: every assignment as its template reads it, and what happened to
           clusters. Each evolution event as JSON with CloudEvents headers, and a new version once more on `templates`
           (compacted), both with the key tenant/cluster on the same partition.
Guarantee  Exactly once inside Kafka: rows, frames, events and offset commit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol
from urllib.parse import quote

from schemas import cloudevents
from schemas.errors import SchemaUnavailable, UndecodableRecord
from schemas.events import EvolutionEvent
from schemas.prompts import (
    CanonicalizedFrame,
    CanonicalizedPrompt,
    ClusterChange,
    ClusteredFrame,
    ClusteredStep,
    SlotStatistics,
)
from schemas.topics import EVOLUTION_EVENTS, PROMPTS_CANONICALIZED, PROMPTS_CLUSTERED, TEMPLATES
from streams.engine import frames
from streams.engine.ports import Handler, Piece, Record, Split, StateView, Table, Unit, WriterSchemas
from streams.engine.tenant_cache import TenantCache
from streams.prompts import ingest
from streams.prompts.canonicalization.logic import Canonicalization, Policy
from streams.prompts.canonicalization.rows import FORMAT, TABLES

STAGE = "canonicalization"
# Of kept texts of all tenants in memory. Python holds them at one to four bytes each, and what is in their slots twice.
CHARS_MAX = 256 * 1024 * 1024
ITEM_BYTES = 1_600  # decision, reasoning and ids of a prompt, or a cluster change, beside the texts

Item = CanonicalizedPrompt | ClusterChange | SlotStatistics


class Engine(Protocol):
    """What this room needs of the engine."""

    def stage(self, name: str, source_topic: str, handler: Handler, *, split: Split | None = None) -> object: ...

    def table(self, name: str, *, owner: str, row_format: int = 1) -> Table: ...

    def views(self, topic: str) -> StateView: ...


def attach(engine: Engine, *, policy: Policy, schemas: WriterSchemas) -> None:
    """Attach the stage that turns clusters into templates and tells how they evolve."""
    source = PROMPTS_CLUSTERED.name
    tables = {name: engine.table(name, owner=source, row_format=FORMAT) for name in TABLES}
    tenants = TenantCache(
        tables, engine.views(source), lambda tenant, rows: Canonicalization(tenant, policy, rows), CHARS_MAX
    )

    async def canonicalize(unit: Unit) -> None:
        steps = [step for record in unit.records for step in await _steps(unit, record, schemas)]
        try:
            _apply(unit, tenants, steps)
        except BaseException:
            tenants.forget(unit.partition)
            raise

    engine.stage(STAGE, source, canonicalize, split=_pieces)


def _apply(unit: Unit, tenants: TenantCache[Canonicalization], steps: Iterable[ClusteredStep]) -> None:
    items: list[Item] = []
    touched: dict[str, None] = {}
    for step in steps:
        tenant = _tenant_of(step)
        touched[tenant] = None
        outcome = tenants.engine(unit.partition, tenant).apply(step)
        if step.change is not None:
            items.append(step.change)
        if outcome.prompt is not None:
            items.append(outcome.prompt)
            _count(unit, outcome.prompt)
        if outcome.statistics is not None:
            items.append(outcome.statistics)
        for event in outcome.events:
            _publish(unit, event)
        for cluster_id in outcome.withdrawn:
            unit.send(TEMPLATES.name, None, partition=unit.partition, key=f"{tenant}/{cluster_id}".encode())
    for batch in frames.batches(items, _item_bytes):
        frame = CanonicalizedFrame(
            prompts=tuple(item for item in batch if isinstance(item, CanonicalizedPrompt)),
            changes=tuple(item for item in batch if isinstance(item, ClusterChange)),
            statistics=tuple(item for item in batch if isinstance(item, SlotStatistics)),
        )
        unit.send(PROMPTS_CANONICALIZED.name, frames.encode(frame), partition=unit.partition)
    for tenant in touched:
        tenants.write(unit.partition, tenant)
    tenants.shrink()


def _count(unit: Unit, prompt: CanonicalizedPrompt) -> None:
    """Count where each prompt first ended: with rejected and dead-lettered ones this adds up to what came in."""
    assignment = prompt.assignment
    if assignment.sequence:
        unit.count("prompts_moved")
    elif assignment.duplicate:
        unit.count("prompts", outcome="duplicate")
    else:
        unit.count("prompts", outcome="unclustered" if assignment.cluster_id is None else "clustered")


def _publish(unit: Unit, event: EvolutionEvent) -> None:
    key = f"{event.tenant}/{event.cluster_id}"
    unit.count("evolution_events", type=event.type.value)
    unit.send(
        EVOLUTION_EVENTS.name,
        event.model_dump_json().encode(),
        partition=unit.partition,
        key=key.encode(),
        headers=cloudevents.headers(
            event_id=event.event_id,
            event_type=cloudevents.TEMPLATE_EVOLVED,
            source=f"/promptloom/canonicalization/{quote(event.tenant, safe='')}",
            time_ms=event.occurred_at_ms,
            subject=key,
        ),
    )
    if event.template is not None:
        value = event.template.model_dump_json().encode()
        unit.send(TEMPLATES.name, value, partition=unit.partition, key=key.encode())


async def _steps(unit: Unit, record: Record, schemas: WriterSchemas) -> tuple[ClusteredStep, ...]:
    """Return the steps of one frame; a broken frame goes to the dead letters."""
    try:
        try:
            return frames.decode(ClusteredFrame, record.value or b"").steps
        except SchemaUnavailable as missing:
            await frames.resolve(missing, schemas)
            return frames.decode(ClusteredFrame, record.value or b"").steps
    except UndecodableRecord as error:
        unit.dead_letter(record, error, stage=STAGE)
        return ()


def _pieces(record: Record) -> Sequence[Piece]:
    """Return each step of a frame as a frame of its own.

    It is refused as that frame as well, not as the prompt that was received: clustering has placed the prompt, and
    would take it for a repeat. A first answer counts as a prompt that ended; a move or a change is none.
    """
    frame = frames.decode(ClusteredFrame, record.value or b"")
    pieces = []
    for step in frame.steps:
        alone = replace(record, value=frames.encode(frame.model_copy(update={"steps": (step,)})))
        first = step.assignment is not None and step.assignment.sequence == 0
        pieces.append(Piece(alone, alone, ingest.DEAD_LETTERED if first else ()))
    return pieces


def _tenant_of(step: ClusteredStep) -> str:
    return step.assignment.prompt.tenant if step.assignment is not None else step.change.tenant if step.change else ""


def _item_bytes(item: Item) -> int:
    if isinstance(item, ClusterChange):
        return ITEM_BYTES
    if isinstance(item, SlotStatistics):
        return ITEM_BYTES + len(item.slots_json.encode())
    # A prompt's text stands in the frame and, cut into slots, a second time.
    return ITEM_BYTES + frames.prompt_bytes(item.assignment.prompt) + sum(map(len, item.slots.values()))
