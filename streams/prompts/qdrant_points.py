"""What Qdrant keeps of the topics: vectors from prompts-embedded, clusters and templates from prompts-canonicalized."""

from __future__ import annotations

import numpy as np

from connectors.qdrant.points import AssignmentRow, Points, VectorRow
from schemas import topics
from schemas.errors import UndecodableRecord
from schemas.prompts import CanonicalizedFrame, CanonicalizedPrompt, EmbeddedFrame
from streams.engine import frames
from streams.engine.ports import Record

TOPICS = (topics.PROMPTS_EMBEDDED.name, topics.PROMPTS_CANONICALIZED.name)


def points_of(record: Record) -> Points:
    """Return what Qdrant keeps of a record.

    Raises:
        UndecodableRecord: the value is not what the topic holds.
        SchemaUnavailable: it is a frame written under a schema that is not known yet.
    """
    if record.topic == topics.PROMPTS_EMBEDDED.name:
        return _vectors(frames.decode(EmbeddedFrame, record.value or b""))
    if record.topic == topics.PROMPTS_CANONICALIZED.name:
        frame = frames.decode(CanonicalizedFrame, record.value or b"")
        return Points(assignments=[_link(item) for item in frame.prompts if not item.assignment.duplicate])
    raise UndecodableRecord(f"writing to Qdrant: nothing is kept of the topic {record.topic}")


def space_of(record: Record) -> tuple[str, int]:
    """Return embedder and dimension of a record of prompts-embedded."""
    frame = frames.decode(EmbeddedFrame, record.value or b"")
    return frame.embedder, frame.dimension


def _vectors(frame: EmbeddedFrame) -> Points:
    shape = (len(frame.prompts), frame.dimension)
    try:
        block = np.frombuffer(frame.vectors, dtype="<f4").reshape(shape)
    except ValueError as error:
        raise UndecodableRecord(
            f"reading vectors: {len(frame.vectors)} bytes are not {shape[0]} x {shape[1]}"
        ) from error
    rows = [
        VectorRow(item.prompt.tenant, item.prompt.prompt_id, item.prompt.received_at_ms, vector)
        for item, vector in zip(frame.prompts, block.tolist(), strict=True)
    ]
    return Points(embedder=frame.embedder, dimension=frame.dimension, vectors=rows)


def _link(item: CanonicalizedPrompt) -> AssignmentRow:
    assignment = item.assignment
    prompt = assignment.prompt
    return AssignmentRow(prompt.tenant, prompt.prompt_id, assignment.sequence, assignment.cluster_id, item.template_id)
