"""What goes into Qdrant: vectors and what is known of them, and how records about one prompt become one point.

Rules
  * One point a prompt, its id derived from tenant and prompt id: writing it again is no change.
  * The first vector of a prompt stays (a second record with its id is a duplicate or refused later on); of its
    assignments the highest sequence counts. So the order in which the two topics are read does not matter,
    and neither does reading a part of them again.
  * A point may have no vector yet: it is not found by similarity until the vector comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.ids import derive

# What a payload holds once its vector is there, and once its prompt is assigned.
VECTOR_KEY = "received_at_ms"
SEQUENCE_KEY = "sequence"

Payload = dict[str, Any]


class VectorRow(NamedTuple):
    tenant: str
    prompt_id: str
    received_at_ms: int
    vector: list[float]


class AssignmentRow(NamedTuple):
    tenant: str
    prompt_id: str
    sequence: int
    cluster: str | None
    template: str | None


@dataclass(slots=True)
class Points:
    """What one record holds; `embedder` is None where it holds no vectors."""

    embedder: str | None = None
    dimension: int = 0
    vectors: list[VectorRow] = field(default_factory=list)
    assignments: list[AssignmentRow] = field(default_factory=list)


@dataclass(slots=True)
class Change:
    """What a batch does to one point: a payload to merge into its own, and the vector it did not have."""

    payload: Payload = field(default_factory=dict)
    vector: list[float] | None = None


def point_id(tenant: str, prompt_id: str) -> str:
    """Return the id of a prompt's point."""
    return derive("point", tenant, prompt_id)


def ids_of(batch: Iterable[Points]) -> set[str]:
    """Return the ids of all points a batch speaks of."""
    vectors = {point_id(row.tenant, row.prompt_id) for points in batch for row in points.vectors}
    return vectors | {point_id(link.tenant, link.prompt_id) for points in batch for link in points.assignments}


def changes(batch: Iterable[Points], stored: Mapping[str, Payload]) -> dict[str, Change]:
    """Return what a batch changes, given the payloads of the points that exist; ids without change are left out."""
    found: dict[str, Change] = {}

    def seen(key: str, identifier: str) -> Any:
        change = found.get(identifier)
        value = change.payload.get(key) if change else None
        return stored.get(identifier, {}).get(key) if value is None else value

    for points in batch:
        for row in points.vectors:
            identifier = point_id(row.tenant, row.prompt_id)
            if seen(VECTOR_KEY, identifier) is None:
                change = found.setdefault(identifier, Change())
                change.vector = row.vector
                change.payload |= {
                    "tenant": row.tenant,
                    "prompt_id": row.prompt_id,
                    VECTOR_KEY: row.received_at_ms,
                }
        for link in points.assignments:
            identifier = point_id(link.tenant, link.prompt_id)
            before = seen(SEQUENCE_KEY, identifier)
            if before is None or link.sequence > before:
                change = found.setdefault(identifier, Change())
                change.payload |= {
                    "tenant": link.tenant,
                    "prompt_id": link.prompt_id,
                    SEQUENCE_KEY: link.sequence,
                    "cluster": link.cluster,
                    "template": link.template,
                }
    return found
