"""What the stages say to each other about prompts, and what a client may send.

A prompt is decoded once (`PromptSubmitted`), becomes a `Prompt`, and travels in frames:
one internal record holds the prompts of one source batch that go to one partition.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from schemas import limits

# What a model consists of. A frozen one lets nobody set it, and its own way of setting looks for private fields.
_put_fields, _put_fields_set, _put_extra, _put_private = (
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


class Model(BaseModel):
    """Base of everything on the wire: immutable, and strict about unknown fields unless it says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    _all_fields: ClassVar[set[str]]  # one for all that are built from all fields: nobody changes it, copies have theirs

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._all_fields = set(cls.model_fields)

    @classmethod
    def trusted(cls, **fields: Any) -> Self:
        """Build from all fields, valid as they are: for values of our own making, at a fifth of the time."""
        built = object.__new__(cls)
        _put_fields(built, fields)
        _put_fields_set(built, cls._all_fields)
        _put_extra(built, None)
        _put_private(built, None)
        return built


class Usage(Model):
    """What the caller's model reported for this prompt. Tokens are counts, `cost_usd` is US dollars."""

    model: str | None = Field(default=None, max_length=200)
    prompt_tokens: int = Field(default=0, ge=0, le=10**12)
    completion_tokens: int = Field(default=0, ge=0, le=10**12)
    cost_usd: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False)


class Prompt(Model):
    """A prompt inside promptloom.

    `text` is the canonical text: NFC is *not* applied, nothing is trimmed; chat messages are
    flattened with role markers (`streams/prompts/chat.py`). `partition`, `offset` and
    `received_at_ms` are those of the record in `prompts`; `created_at_ms` is event time.
    """

    prompt_id: str
    tenant: str
    text: str
    source: str = ""
    created_at_ms: int
    received_at_ms: int
    partition: int
    offset: int
    metadata_json: str = "{}"
    usage: Usage | None = None


class Moderation(Model):
    """The verdict on one prompt; `scores` are probabilities by category, `categories` those that rejected it."""

    allowed: bool
    scores: dict[str, float]
    reason: str = ""
    moderator: str
    policy_version: str
    categories: tuple[str, ...] = ()


class PromptRejected(Model):
    """A record of `prompts-rejected`: everything about a rejected prompt except its text."""

    prompt_id: str
    tenant: str
    text_sha256: str
    text_chars: int
    source: str = ""
    created_at_ms: int
    received_at_ms: int
    partition: int
    offset: int
    moderation: Moderation


class ModeratedPrompt(Model):
    prompt: Prompt
    moderation: Moderation


class ModeratedFrame(Model):
    """Prompts that passed moderation, in the order of `prompts`."""

    prompts: tuple[ModeratedPrompt, ...]


class EmbeddedFrame(Model):
    """Prompts of one tenant partition with their vectors.

    `vectors` is a row-major float32 little-endian block of shape (len(prompts), dimension),
    each row of unit length. Vectors of two embedders never share a frame.
    """

    embedder: str
    dimension: int
    vectors: bytes
    prompts: tuple[ModeratedPrompt, ...]


class Decision(Model):
    """Why a prompt went where it went: the decision record behind `promptloom why`."""

    gate: str  # structure | tie | meaning | none | moved | duplicate
    nearest_cluster_id: str | None = None
    nearest_structure: float = 0.0  # share of the cluster's weighted constants the prompt holds, 0..1
    nearest_meaning: float = 0.0  # cosine to the cluster's centroid
    second_cluster_id: str | None = None
    second_structure: float = 0.0
    second_meaning: float = 0.0
    margin: float = 0.0
    algorithm: str
    policy_version: str


class Assignment(Model):
    """One link of a prompt's assignment chain. The highest `sequence` is current.

    `cluster_id` None = unclustered. Sequence 0 is the first answer; each move adds one.
    `duplicate` marks a repeat of an id with the same text: counted, otherwise ignored.
    """

    prompt: Prompt
    moderation: Moderation
    sequence: int
    cluster_id: str | None
    previous_cluster_id: str | None = None
    similarity: float = 0.0
    confidence: float = 0.0
    reasoning: str = ""
    decision: Decision
    duplicate: bool = False


class ClusterChangeKind(StrEnum):
    FOUNDED = "FOUNDED"
    MERGED = "MERGED"  # other_cluster_ids were merged into cluster_id
    SPLIT = "SPLIT"  # other_cluster_ids were split off from cluster_id
    RETIRED = "RETIRED"
    REVIVED = "REVIVED"
    DISSOLVED = "DISSOLVED"  # a young cluster lost its members again; its prompts move elsewhere


class ClusterChange(Model):
    """Something that happened to a cluster; `prompt_id` is its newest member at that moment."""

    kind: ClusterChangeKind
    tenant: str
    cluster_id: str
    other_cluster_ids: tuple[str, ...] = ()
    prompt_id: str
    partition: int  # of the prompt in `prompts`
    offset: int
    occurred_at_ms: int
    reason: str = ""


class ClusteredFrame(Model):
    """Assignments and cluster changes of one tenant partition, in the order they were decided.

    Exactly one of `assignment` and `change` is set in each step. `embedder` names the space
    the centroids live in.
    """

    embedder: str
    steps: tuple[ClusteredStep, ...]


class ClusteredStep(Model):
    assignment: Assignment | None = None
    change: ClusterChange | None = None


class CanonicalizedPrompt(Model):
    """An assignment with what its template made of it: what the sinks write.

    `slots` maps slot name to value; filling the template of `template_version` with them gives the
    text byte for byte, unless `raw`. `template_id` None = no settled template (yet).
    """

    assignment: Assignment
    family_id: str | None = None
    template_id: str | None = None
    template_version: str | None = None
    slots: dict[str, str] = {}
    raw: bool = False


class SlotStatistics(Model):
    """What the values of a template version's slots look like by now; the version itself stays as it is.

    `slots_json` is an array of `schemas.events.Slot`.
    """

    tenant: str
    cluster_id: str
    template_id: str
    version: str
    slots_json: str


class CanonicalizedFrame(Model):
    prompts: tuple[CanonicalizedPrompt, ...]
    changes: tuple[ClusterChange, ...] = ()
    statistics: tuple[SlotStatistics, ...] = ()


class ChatMessage(Model):
    role: str = Field(min_length=1, max_length=50)
    content: str


class PromptSubmitted(BaseModel):
    """A record of `prompts`, as a client sends it. Either `text` or `messages`.

    Unknown fields are kept under `metadata` (a newer client must not lose a prompt), within its size limit.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    text: str | None = None
    messages: tuple[ChatMessage, ...] | None = Field(default=None, max_length=limits.MESSAGES_MAX)
    id: str | None = Field(default=None, min_length=1, max_length=limits.ID_CHARS_MAX)
    tenant: str = Field(default="default", min_length=1, max_length=limits.TENANT_CHARS_MAX)
    source: str = Field(default="", max_length=limits.SOURCE_CHARS_MAX)
    created_at: str | int | float | None = None  # RFC 3339, or milliseconds since the epoch
    metadata: dict[str, Any] = {}
    usage: Usage | None = None


ClusteredFrame.model_rebuild()
