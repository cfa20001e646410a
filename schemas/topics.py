"""The topics table: every topic, its key, its partitions, and how long it keeps what.

`public` topics carry one JSON record per thing and CloudEvents headers; the others
are internal and carry Avro frames (one record = many prompts of one partition).
Changelogs of state tables are declared beside the tables (`streams/prompts/topology.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import EvolutionEvent, TemplateVersion
from schemas.prompts import (
    CanonicalizedFrame,
    ClusteredFrame,
    EmbeddedFrame,
    Model,
    ModeratedFrame,
    PromptRejected,
    PromptSubmitted,
)
from schemas.refinements import Refinement

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PARTITIONS_DEFAULT = 8


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the topics table.

    `key` describes the record key in words; `retention_ms` of -1 keeps records for good.
    `partitions` of None means the deployment's number (`kafka.partitions`, 8 by default).
    `model` describes a record's value where it is one of ours.
    """

    name: str
    key: str
    value: str
    public: bool
    retention_ms: int
    compacted: bool = False
    partitions: int | None = None
    model: type[Model | PromptSubmitted] | None = None


PROMPTS = Topic(
    "prompts",
    "tenant (advised)",
    "PromptSubmitted: JSON, Avro or Confluent Avro",
    True,
    7 * DAY_MS,
    model=PromptSubmitted,
)
PROMPTS_REJECTED = Topic(
    "prompts-rejected", "tenant", "PromptRejected: JSON, no text", True, 30 * DAY_MS, model=PromptRejected
)
PROMPTS_MODERATED = Topic("prompts-moderated", "none", "ModeratedFrame: Avro", False, DAY_MS, model=ModeratedFrame)
PROMPTS_EMBEDDED = Topic("prompts-embedded", "none", "EmbeddedFrame: Avro", False, DAY_MS, model=EmbeddedFrame)
PROMPTS_CLUSTERED = Topic("prompts-clustered", "none", "ClusteredFrame: Avro", False, 7 * DAY_MS, model=ClusteredFrame)
PROMPTS_CANONICALIZED = Topic(
    "prompts-canonicalized", "none", "CanonicalizedFrame: Avro", False, 7 * DAY_MS, model=CanonicalizedFrame
)
EVOLUTION_EVENTS = Topic(
    "evolution-events", "tenant/cluster_id", "EvolutionEvent: JSON", True, -1, model=EvolutionEvent
)
TEMPLATES = Topic(
    "templates", "tenant/cluster_id", "TemplateVersion: JSON", True, -1, compacted=True, model=TemplateVersion
)
REFINEMENTS = Topic("refinements", "tenant/cluster_id", "Refinement: JSON", True, -1, compacted=True, model=Refinement)
DEAD_LETTERS = Topic("dead-letters", "as received", "the original bytes", True, 3 * DAY_MS)
ERROR_HEADER_PREFIX = "__promptloom.errors."  # of the headers of a dead letter that say why it is one
# What keeps a letter from being sent back twice. Kept longer than any letter, so that a mark outlives its letter.
DEAD_LETTERS_REPLAYED = Topic(
    "dead-letters-replayed", "place and time of a letter", "where it was sent: JSON", False, 14 * DAY_MS, partitions=1
)
SCHEMAS = Topic("schemas", "fingerprint", "an Avro schema: JSON", False, -1, compacted=True, partitions=1)

TOPICS: tuple[Topic, ...] = (
    PROMPTS,
    PROMPTS_REJECTED,
    PROMPTS_MODERATED,
    PROMPTS_EMBEDDED,
    PROMPTS_CLUSTERED,
    PROMPTS_CANONICALIZED,
    EVOLUTION_EVENTS,
    TEMPLATES,
    REFINEMENTS,
    DEAD_LETTERS,
    DEAD_LETTERS_REPLAYED,
    SCHEMAS,
)
