"""The rows of one transaction, and how those of many records become one row a key.

Rules
  * Records are folded in the order they were read; each table says which of two rows of one key counts.
  * Whatever refers to a cluster, family or template brings that parent along as a stub, so a child never
    waits for a topic that is read later.
  * Two folds of the same records give the same rows, and so do one fold of all and several folds of parts
    once the statements (`statements.py`) have written them: where a row meets an older one, here or in
    the table, the same rule decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

ALLOWED = "allowed"
REJECTED = "rejected"
DUPLICATE = "duplicate"


class FamilyRow(NamedTuple):
    family_id: str
    tenant: str
    name: str = ""
    created_at: datetime | None = None
    record_offset: int | None = None


class ClusterRow(NamedTuple):
    """What is None is not changed."""

    cluster_id: str
    tenant: str
    founded_at: datetime | None = None
    merged_into: str | None = None
    split_from: str | None = None
    retired: bool | None = None
    dissolved: bool | None = None
    record_offset: int | None = None


class MappingRow(NamedTuple):
    cluster_id: str
    family_id: str
    mapped_at: datetime  # of the newest event that says so
    record_offset: int


class TemplateRow(NamedTuple):
    template_id: str
    tenant: str
    cluster_id: str
    version: str
    template: str | None = None
    slots: str | None = None
    name: str | None = None
    description: str | None = None
    confidence: float | None = None
    members: int | None = None
    created_at: datetime | None = None


class SlotRow(NamedTuple):
    template_id: str
    name: str
    position: int
    type: str
    optional: bool
    repeated: bool
    confidence: float
    example_values: str
    detail: str
    statistics: str


class RefinementRow(NamedTuple):
    """What a model made of a template version; the newest one counts."""

    template_id: str
    refinement_id: str
    event_id: str
    tenant: str
    family_id: str | None
    name: str
    description: str
    family_name: str
    family_description: str
    slots: str
    model: str
    prompt_version: str
    created_at: datetime
    record_offset: int


class PromptRow(NamedTuple):
    prompt_id: str
    tenant: str
    text: str | None
    text_sha256: str | None
    text_chars: int
    moderation_status: str
    moderation: str
    source: str
    metadata: str
    usage: str | None
    created_at: datetime
    received_at: datetime
    prompt_partition: int
    prompt_offset: int


class RepeatRow(NamedTuple):
    prompt_partition: int
    prompt_offset: int
    prompt_id: str
    tenant: str
    outcome: str
    received_at: datetime


class AssignmentRow(NamedTuple):
    prompt_id: str
    tenant: str
    sequence: int
    current: bool
    cluster_id: str | None
    previous_cluster_id: str | None
    similarity: float
    confidence: float
    reasoning: str
    decision: str
    template_id: str | None
    template_version: str | None
    slots: str
    raw: bool


class EventRow(NamedTuple):
    event_id: str
    type: str
    tenant: str
    cluster_id: str | None
    family_id: str | None
    template_id: str | None
    prompt_id: str
    previous_version: str | None
    new_version: str | None
    change_reason: str
    diff: str
    detected_by: str
    details: str
    created_at: datetime
    prompt_partition: int
    prompt_offset: int
    record_partition: int
    record_offset: int


@dataclass(slots=True)
class Rows:
    """What one record holds, or what many hold together."""

    families: list[FamilyRow] = field(default_factory=list)
    clusters: list[ClusterRow] = field(default_factory=list)
    mappings: list[MappingRow] = field(default_factory=list)
    templates: list[TemplateRow] = field(default_factory=list)
    slots: list[SlotRow] = field(default_factory=list)
    slot_statistics: list[SlotRow] = field(default_factory=list)
    refinements: list[RefinementRow] = field(default_factory=list)
    prompts: list[PromptRow] = field(default_factory=list)
    repeats: list[RepeatRow] = field(default_factory=list)
    assignments: list[AssignmentRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    # When the prompts that are seen for the first time were received, for the latency from there to here.
    received_at_ms: list[int] = field(default_factory=list)


def fold(many: Iterable[Rows]) -> Rows:
    """Return the rows of all records with at most one row a key."""
    records = list(many)
    prompts, repeats = _prompts([row for rows in records for row in rows.prompts])
    return Rows(
        families=_families(row for rows in records for row in rows.families),
        clusters=_clusters(row for rows in records for row in rows.clusters),
        mappings=list({row.cluster_id: row for rows in records for row in rows.mappings}.values()),
        templates=_templates(row for rows in records for row in rows.templates),
        slots=list({(row.template_id, row.name): row for rows in records for row in rows.slots}.values()),
        slot_statistics=_newest(row for rows in records for row in rows.slot_statistics),
        refinements=list({row.template_id: row for rows in records for row in rows.refinements}.values()),
        prompts=prompts,
        repeats=[row for rows in records for row in rows.repeats] + repeats,
        assignments=_assignments(row for rows in records for row in rows.assignments),
        events=list({row.event_id: row for rows in records for row in rows.events}.values()),
        received_at_ms=[at_ms for rows in records for at_ms in rows.received_at_ms],
    )


def _families(rows: Iterable[FamilyRow]) -> list[FamilyRow]:
    """The newest name, the first moment."""
    kept: dict[str, FamilyRow] = {}
    for row in rows:
        before = kept.get(row.family_id)
        if before is None or before.record_offset is None:
            kept[row.family_id] = row
        elif row.record_offset is not None:
            kept[row.family_id] = row._replace(name=row.name or before.name, created_at=before.created_at)
    return list(kept.values())


def _clusters(rows: Iterable[ClusterRow]) -> list[ClusterRow]:
    """Every change after the one before."""
    kept: dict[str, ClusterRow] = {}
    for row in rows:
        before = kept.get(row.cluster_id)
        changed = {name: value for name, value in row._asdict().items() if value is not None}
        kept[row.cluster_id] = row if before is None else before._replace(**changed)
    return list(kept.values())


def _templates(rows: Iterable[TemplateRow]) -> list[TemplateRow]:
    """A stub gives way to the version itself."""
    kept: dict[str, TemplateRow] = {}
    for row in rows:
        if row.template_id not in kept or kept[row.template_id].template is None:
            kept[row.template_id] = row
    return list(kept.values())


def _newest(rows: Iterable[SlotRow]) -> list[SlotRow]:
    """The row that saw the most values."""
    kept: dict[tuple[str, str], SlotRow] = {}
    for row in rows:
        before = kept.get((row.template_id, row.name))
        if before is None or _values_seen(row) > _values_seen(before):
            kept[row.template_id, row.name] = row
    return list(kept.values())


def _values_seen(row: SlotRow) -> int:
    return int(json.loads(row.statistics).get("values", 0))


def _prompts(rows: list[PromptRow]) -> tuple[list[PromptRow], list[RepeatRow]]:
    """An allowed prompt before a rejected one, else the first; another record's row of the same id is a repeat."""
    kept: dict[tuple[str, str], PromptRow] = {}
    repeats: list[RepeatRow] = []
    for row in rows:
        key = (row.prompt_id, row.tenant)
        before = kept.get(key)
        if before is None:
            kept[key] = row
        elif row[-2:] != before[-2:]:
            replaced = gives_way(before.moderation_status, row.moderation_status)
            kept[key] = row if replaced else before
            repeats.append(repeat_of(before if replaced else row))
    return list(kept.values()), repeats


def gives_way(status_before: str, status: str) -> bool:
    """Return whether a prompt with this status takes the row of an earlier one of the same id."""
    return status_before == REJECTED and status == ALLOWED


def repeat_of(row: PromptRow) -> RepeatRow:
    """Return what a prompt is when its id has the row of another record."""
    outcome = REJECTED if row.moderation_status == REJECTED else DUPLICATE
    return RepeatRow(row.prompt_partition, row.prompt_offset, row.prompt_id, row.tenant, outcome, row.received_at)


def _assignments(rows: Iterable[AssignmentRow]) -> list[AssignmentRow]:
    """All links; the highest of each chain is marked current, which the statements check against the table."""
    links = {(row.prompt_id, row.tenant, row.sequence): row for row in rows}
    highest: dict[tuple[str, str], int] = {}
    for prompt_id, tenant, sequence in links:
        key = (prompt_id, tenant)
        highest[key] = max(sequence, highest.get(key, sequence))
    return [
        row._replace(current=True) if highest[row.prompt_id, row.tenant] == row.sequence else row
        for row in links.values()
    ]
