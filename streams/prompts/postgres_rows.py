"""What Postgres keeps of the topics: records become rows here, and only here.

    prompts-canonicalized   prompts, assignments, clusters; stubs of what they refer to
    evolution-events        events, families, template versions with their slots
    refinements             what a model calls template versions, their slots and families
    prompts-rejected        prompts without text

Which topic decides about what: clusters by their changes in prompts-canonicalized, families and their clusters
by evolution-events. Each of the two has one tenant in one partition, so there the newest record wins; between
topics there is no order, so none is relied on.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from connectors.postgres import storable
from connectors.postgres.rows import (
    ALLOWED,
    DUPLICATE,
    REJECTED,
    AssignmentRow,
    ClusterRow,
    EventRow,
    FamilyRow,
    MappingRow,
    PromptRow,
    RefinementRow,
    RepeatRow,
    Rows,
    SlotRow,
    TemplateRow,
)
from schemas import topics
from schemas.errors import UndecodableRecord
from schemas.events import EvolutionEvent, Slot, TemplateVersion
from schemas.ids import template_id
from schemas.prompts import (
    Assignment,
    CanonicalizedFrame,
    CanonicalizedPrompt,
    ClusterChange,
    ClusterChangeKind,
    PromptRejected,
)
from schemas.refinements import Refinement
from streams.engine import frames
from streams.engine.ports import Record

TOPICS = (
    topics.PROMPTS_CANONICALIZED.name,
    topics.EVOLUTION_EVENTS.name,
    topics.REFINEMENTS.name,
    topics.PROMPTS_REJECTED.name,
)

Kind = TypeVar("Kind", bound=BaseModel)


SLOTS = TypeAdapter(tuple[Slot, ...])


def rows_of(record: Record) -> Rows:
    """Return what Postgres keeps of a record.

    Raises:
        UndecodableRecord: the value is not what the topic holds.
        SchemaUnavailable: it is a frame written under a schema that is not known yet.
    """
    if record.topic == topics.PROMPTS_CANONICALIZED.name:
        return _of_frame(frames.decode(CanonicalizedFrame, record.value or b""), record)
    if record.topic == topics.EVOLUTION_EVENTS.name:
        return _of_event(_json(EvolutionEvent, record), record)
    if record.topic == topics.REFINEMENTS.name:
        return _refined(_json(Refinement, record), record)
    if record.topic == topics.PROMPTS_REJECTED.name:
        return _rejected(_json(PromptRejected, record))
    raise UndecodableRecord(f"writing to Postgres: nothing is kept of the topic {record.topic}")


def _of_frame(frame: CanonicalizedFrame, record: Record) -> Rows:
    rows = Rows()
    for change in frame.changes:
        rows.clusters += _changed_clusters(change, record.offset)
    for refreshed in frame.statistics:
        rows.clusters.append(ClusterRow(refreshed.cluster_id, refreshed.tenant))
        known = TemplateRow(refreshed.template_id, refreshed.tenant, refreshed.cluster_id, refreshed.version)
        rows.templates.append(known)
        slots = SLOTS.validate_json(refreshed.slots_json)
        rows.slot_statistics += [_slot(refreshed.template_id, slot) for slot in slots]
    for item in frame.prompts:
        assignment = item.assignment
        prompt = assignment.prompt
        if assignment.duplicate:
            rows.repeats.append(
                RepeatRow(
                    prompt.partition,
                    prompt.offset,
                    prompt.prompt_id,
                    prompt.tenant,
                    DUPLICATE,
                    storable.moment(prompt.received_at_ms),
                )
            )
            continue
        rows.prompts.append(_allowed(assignment))
        rows.assignments.append(_assignment(item))
        if assignment.cluster_id is not None:
            rows.clusters.append(ClusterRow(assignment.cluster_id, prompt.tenant))
            if item.template_id is not None and item.template_version is not None:
                version = item.template_version
                rows.templates.append(TemplateRow(item.template_id, prompt.tenant, assignment.cluster_id, version))
        if assignment.sequence == 0:
            rows.received_at_ms.append(prompt.received_at_ms)
    return rows


def _changed_clusters(change: ClusterChange, record_offset: int) -> list[ClusterRow]:
    kind = change.kind
    moment = storable.moment(change.occurred_at_ms)
    others = change.other_cluster_ids
    row = ClusterRow(change.cluster_id, change.tenant, record_offset=record_offset)
    if kind is ClusterChangeKind.FOUNDED:
        return [row._replace(founded_at=moment)]
    if kind is ClusterChangeKind.MERGED:
        return [row, *(row._replace(cluster_id=other, merged_into=change.cluster_id) for other in others)]
    if kind is ClusterChangeKind.SPLIT:
        part = row._replace(split_from=change.cluster_id, founded_at=moment)
        return [row, *(part._replace(cluster_id=other) for other in others)]
    if kind is ClusterChangeKind.RETIRED:
        return [row._replace(retired=True)]
    if kind is ClusterChangeKind.REVIVED:
        return [row._replace(retired=False, dissolved=False)]
    return [row._replace(dissolved=True)]


def _allowed(assignment: Assignment) -> PromptRow:
    prompt = assignment.prompt
    return PromptRow(
        prompt_id=prompt.prompt_id,
        tenant=prompt.tenant,
        text=storable.text(prompt.text),
        text_sha256=None,
        text_chars=len(prompt.text),
        moderation_status=ALLOWED,
        moderation=storable.json(assignment.moderation.model_dump(exclude={"allowed"})),
        source=storable.text(prompt.source),
        metadata=storable.json_text(prompt.metadata_json),
        usage=None if prompt.usage is None else storable.json(prompt.usage.model_dump()),
        created_at=storable.moment(prompt.created_at_ms),
        received_at=storable.moment(prompt.received_at_ms),
        prompt_partition=prompt.partition,
        prompt_offset=prompt.offset,
    )


def _rejected(rejected: PromptRejected) -> Rows:
    row = PromptRow(
        prompt_id=rejected.prompt_id,
        tenant=rejected.tenant,
        text=None,
        text_sha256=rejected.text_sha256,
        text_chars=rejected.text_chars,
        moderation_status=REJECTED,
        moderation=storable.json(rejected.moderation.model_dump(exclude={"allowed"})),
        source=storable.text(rejected.source),
        metadata="{}",
        usage=None,
        created_at=storable.moment(rejected.created_at_ms),
        received_at=storable.moment(rejected.received_at_ms),
        prompt_partition=rejected.partition,
        prompt_offset=rejected.offset,
    )
    return Rows(prompts=[row], received_at_ms=[rejected.received_at_ms])


def _assignment(item: CanonicalizedPrompt) -> AssignmentRow:
    assignment = item.assignment
    return AssignmentRow(
        prompt_id=assignment.prompt.prompt_id,
        tenant=assignment.prompt.tenant,
        sequence=assignment.sequence,
        current=False,
        cluster_id=assignment.cluster_id,
        previous_cluster_id=assignment.previous_cluster_id,
        similarity=assignment.similarity,
        confidence=assignment.confidence,
        reasoning=storable.text(assignment.reasoning),
        decision=storable.json(assignment.decision.model_dump()),
        template_id=item.template_id if assignment.cluster_id and item.template_version else None,
        template_version=item.template_version,
        slots=storable.json(item.slots),
        raw=item.raw,
    )


def _of_event(event: EvolutionEvent, record: Record) -> Rows:
    moment = storable.moment(event.occurred_at_ms)
    cluster_id = event.cluster_id or None
    template = event.template
    known_version = _version_spoken_of(event)
    rows = Rows(
        events=[
            EventRow(
                event_id=event.event_id,
                type=event.type.value,
                tenant=event.tenant,
                cluster_id=cluster_id,
                family_id=event.family_id,
                template_id=event.template_id if template or known_version else None,
                prompt_id=event.prompt_id,
                previous_version=event.previous_version,
                new_version=event.new_version,
                change_reason=storable.text(event.reason),
                diff=storable.text(event.diff),
                detected_by=event.detected_by,
                details=storable.json(event.details),
                created_at=moment,
                prompt_partition=event.partition,
                prompt_offset=event.offset,
                record_partition=record.partition,
                record_offset=record.offset,
            )
        ]
    )
    if cluster_id is not None:
        rows.clusters.append(ClusterRow(cluster_id, event.tenant))
    if event.family_id is not None:
        named = template is not None and template.family_id == event.family_id
        name = storable.text(template.family_name) if named and template else ""
        rows.families.append(FamilyRow(event.family_id, event.tenant, name, moment, record.offset))
        if cluster_id is not None:
            rows.mappings.append(MappingRow(cluster_id, event.family_id, moment, record.offset))
    if event.template_id is not None and known_version is not None:
        rows.templates.append(TemplateRow(event.template_id, event.tenant, event.cluster_id, known_version))
    if template is not None:
        rows.clusters.append(ClusterRow(template.cluster_id, template.tenant))
        rows.templates.append(_version(template))
        rows.slots += [_slot(template.template_id, slot) for slot in template.slots]
    return rows


def _version_spoken_of(event: EvolutionEvent) -> str | None:
    """Return the version whose id the event's template_id is; None where that cannot be told."""
    versions = (version for version in (event.new_version, event.previous_version) if version is not None)
    return next((version for version in versions if template_id(event.cluster_id, version) == event.template_id), None)


def _version(template: TemplateVersion) -> TemplateRow:
    slots = [slot.model_dump(mode="json", exclude={"examples", "statistics"}) for slot in template.slots]
    return TemplateRow(
        template_id=template.template_id,
        tenant=template.tenant,
        cluster_id=template.cluster_id,
        version=template.version,
        template=storable.text(template.template),
        slots=storable.json(slots),
        name=storable.text(template.name),
        description=storable.text(template.description),
        confidence=template.confidence,
        members=template.members,
        created_at=storable.moment(template.created_at_ms),
    )


def _slot(version_id: str, slot: Slot) -> SlotRow:
    return SlotRow(
        template_id=version_id,
        name=storable.text(slot.name),
        position=slot.position,
        type=slot.type.value,
        optional=slot.optional,
        repeated=slot.repeated,
        confidence=slot.confidence,
        example_values=storable.json(slot.examples),
        detail=storable.json(slot.detail),
        statistics=storable.json(slot.statistics),
    )


def _refined(refinement: Refinement, record: Record) -> Rows:
    moment = storable.moment(refinement.occurred_at_ms)
    tenant, family_id = refinement.tenant, refinement.family_id
    row = RefinementRow(
        template_id=refinement.template_id,
        refinement_id=refinement.refinement_id,
        event_id=refinement.event_id,
        tenant=tenant,
        family_id=family_id,
        name=storable.text(refinement.name),
        description=storable.text(refinement.description),
        family_name=storable.text(refinement.family_name),
        family_description=storable.text(refinement.family_description),
        slots=storable.json({name: slot.model_dump() for name, slot in refinement.slots.items()}),
        model=refinement.model,
        prompt_version=refinement.prompt_version,
        created_at=moment,
        record_offset=record.offset,
    )
    return Rows(
        families=[] if family_id is None else [FamilyRow(family_id, tenant)],
        clusters=[ClusterRow(refinement.cluster_id, tenant)],
        templates=[TemplateRow(refinement.template_id, tenant, refinement.cluster_id, refinement.version)],
        refinements=[row],
    )


def _json(model: type[Kind], record: Record) -> Kind:
    try:
        return model.model_validate_json(record.value or b"")
    except ValidationError as error:  # it quotes its input, which may hold parts of prompts, so it is not chained
        problems = error.error_count()
        raise UndecodableRecord(f"reading a record of {record.topic}: {problems} field(s) are invalid") from None
