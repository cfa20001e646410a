"""The app on one page: which agent reads which topic, in the order of the flow.

prompts -> moderation -> prompts-moderated -> embedding -> prompts-embedded
        -> clustering -> prompts-clustered -> canonicalization -> prompts-canonicalized
                                                               -> evolution-events, templates
prompts-rejected -> strikes          any stage -> dead-letters
evolution-events -> refinement -> refinements                          with a model only
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from schemas.prompts import Prompt
from streams.engine.engine import Engine
from streams.engine.metrics import CounterSpec
from streams.engine.ports import Record, WriterSchemas
from streams.prompts.canonicalization import agent as canonicalization
from streams.prompts.canonicalization.logic import Policy as CanonicalizationPolicy
from streams.prompts.clustering import agent as clustering
from streams.prompts.clustering.policy import Policy as ClusteringPolicy
from streams.prompts.embedding import agent as embedding
from streams.prompts.moderation import agent as moderation
from streams.prompts.moderation.logic import Policy as ModerationPolicy
from streams.prompts.ports import Embedder, LanguageModel, Moderator
from streams.prompts.refinement import agent as refinement

# Conservation: received = rejected + clustered + unclustered + duplicate + dead_lettered + in flight.
COUNTERS = (
    CounterSpec("prompts", "Prompts by outcome; `received` counts every record of `prompts`.", ("outcome",)),
    CounterSpec("prompts_moved", "Prompts that moved to another cluster after their first answer."),
    CounterSpec("rejections", "Categories that rejected a prompt.", ("category",)),
    CounterSpec("evolution_events", "Evolution events by type.", ("type",)),
    CounterSpec("refinements", "Template versions by what a model made of them; `repeated` = known.", ("outcome",)),
    CounterSpec("refinement_answers_unusable", "Answers of the model that broke a rule."),
    CounterSpec("usage_tokens", "Tokens as reported in `usage`.", ("kind",)),
    CounterSpec("usage_cost_usd", "Cost as reported in `usage`, in US dollars."),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agents need of the outside."""

    read: Callable[[Record], Awaitable[Prompt]]  # a record of `prompts`, in any accepted encoding
    schemas: WriterSchemas
    moderator: Moderator
    embedder: Embedder
    moderation: ModerationPolicy
    clustering: ClusteringPolicy
    canonicalization: CanonicalizationPolicy
    partitions: int
    language_model: LanguageModel | None = None  # None: templates, slots and families keep their offline names
    examples_allowed: bool = False  # whether it sees values that prompts held


def build(engine: Engine, parts: Parts) -> None:
    """Attach all agents to the engine."""
    moderation.attach(
        engine, read=parts.read, moderator=parts.moderator, policy=parts.moderation, partitions=parts.partitions
    )
    moderation.attach_strikes(engine)
    embedding.attach(engine, embedder=parts.embedder, schemas=parts.schemas, partitions=parts.partitions)
    clustering.attach(engine, policy=parts.clustering, schemas=parts.schemas)
    canonicalization.attach(engine, policy=parts.canonicalization, schemas=parts.schemas)
    if parts.language_model is not None:
        refinement.attach(engine, model=parts.language_model, examples_allowed=parts.examples_allowed)
