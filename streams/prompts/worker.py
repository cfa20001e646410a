"""A worker process: the only place where the agents meet real connectors.

`prepare` makes sure that topics exist and that every schema this program writes is published;
`build` puts engine, agents and connectors together; `run` blocks until SIGTERM. A broker that is away
when the worker starts is waited for, and `/ready` says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from connectors.embedders import EMBEDDERS
from connectors.embedders.cache import CachedEmbedder
from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from connectors.kafka.registry import registry_at
from connectors.kafka.schema_lookup import SchemaLookup
from connectors.kafka.schema_topic import SchemaTopic
from connectors.moderators import MODERATORS
from schemas.topics import DEAD_LETTERS, ERROR_HEADER_PREFIX, PROMPTS, TOPICS
from streams.engine import frames, health
from streams.engine.engine import Engine
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.stage import NewProducer
from streams.engine.metrics import Metrics
from streams.engine.ports import Observer
from streams.native import is_compiled
from streams.prompts import calibrated, ingest, topology
from streams.prompts.canonicalization.logic import Policy as CanonicalizationPolicy
from streams.prompts.moderation.logic import Policy as ModerationPolicy
from streams.prompts.ports import Embedder, LanguageModel, Moderator
from streams.settings import Settings

log = logging.getLogger(__name__)


def run(settings: Settings, *, new_producer: NewProducer = TransactionalProducer) -> None:
    """Run a worker until it is told to stop."""
    started = time.monotonic()
    metrics = Metrics("promptloom", topology.COUNTERS)
    engine = build(settings, metrics, new_producer=new_producer)
    port = None
    if settings.metrics.enabled:
        port = health.serve(settings.metrics.host, settings.metrics.worker_port, metrics.registry, engine.vitals)
    log.info(
        "worker started",
        extra={
            "app_id": settings.engine.app_id,
            "brokers": settings.kafka.bootstrap_servers,
            "embedder": settings.embedding.embedder,
            "moderator": settings.moderation.moderator,
            "refinement": settings.refinement.model or "off",
            "rooms": "machine code" if is_compiled() else "plain Python",
            "metrics": f"http://{settings.metrics.host}:{port}/metrics" if port else "off",
            "start_seconds": round(time.monotonic() - started, 2),
        },
    )
    engine.run(partial(prepare, settings, engine))
    log.info("worker stopped", extra={"app_id": settings.engine.app_id})


def build(
    settings: Settings,
    observer: Observer,
    *,
    moderator: Moderator | None = None,
    embedder: Embedder | None = None,
    new_producer: NewProducer = TransactionalProducer,
) -> Engine:
    """Return an engine with all agents attached; nothing runs yet.

    A moderator or embedder given here is used instead of the one the settings name.
    """
    engine = Engine(
        settings.engine,
        aiokafka_configuration(settings.kafka),
        partitions=settings.kafka.partitions,
        state_folder=settings.data_dir.expanduser() / "state",
        dead_letters=DEAD_LETTERS.name,
        dead_letter_header_prefix=ERROR_HEADER_PREFIX,
        observer=observer,
        new_producer=new_producer,
    )
    lookup = SchemaLookup(SchemaTopic(settings.kafka), registry_at(settings.kafka.schema_registry_url))
    moderation = settings.moderation
    topology.build(
        engine,
        topology.Parts(
            read=partial(ingest.read, schemas=lookup),
            schemas=lookup,
            moderator=moderator or moderator_of(settings),
            embedder=embedder or embedder_of(settings),
            moderation=ModerationPolicy(
                moderation.policy_version, moderation.threshold, moderation.thresholds, moderation.tenants
            ),
            clustering=calibrated.policy_of(settings),
            canonicalization=CanonicalizationPolicy(),
            partitions=settings.kafka.partitions,
            language_model=language_model_of(settings),
            examples_allowed=settings.refinement.examples_allowed,
        ),
    )
    return engine


async def prepare(settings: Settings, engine: Engine) -> None:
    """Create what topics are missing, changelogs included, and publish the schemas this program writes with."""
    await asyncio.to_thread(
        Admin(settings.kafka).create,
        [*TOPICS, *engine.changelog_topics()],
        partitions=settings.kafka.partitions,
        replication_factor=settings.kafka.replication_factor,
    )
    # A later program must still read what this one wrote, so the schema is there before the first record.
    models = [topic.model for topic in TOPICS if topic.model and (not topic.public or topic is PROMPTS)]
    await SchemaTopic(settings.kafka).publish(frames.definition_of(model) for model in models)


def embedder_of(settings: Settings) -> Embedder:
    """Return the embedder of the settings behind its cache."""
    embedding = settings.embedding
    chosen: dict[str, Any] = {"chunk_chars": embedding.chunk_chars, "chunks_max": embedding.chunks_max}
    if embedding.embedder == "portkey":
        chosen |= {"model": embedding.portkey_model, "dimension": embedding.portkey_dimension}
        chosen |= _gateway(settings)
    return CachedEmbedder(EMBEDDERS[embedding.embedder](**chosen), entries_max=embedding.cache_entries_max)


def moderator_of(settings: Settings) -> Moderator:
    """Return the moderator of the settings."""
    moderation = settings.moderation
    if moderation.moderator == "portkey":
        return MODERATORS["portkey"](model=moderation.portkey_model, **_gateway(settings))
    return MODERATORS[moderation.moderator]()


def language_model_of(settings: Settings) -> LanguageModel | None:
    """Return the model that refines names, if the settings name one."""
    refinement = settings.refinement
    if not refinement.model:
        return None
    from connectors.portkey.chat import PortkeyChat  # noqa: PLC0415  an HTTP client, half a second to load

    return PortkeyChat(model=refinement.model, tokens_max=refinement.answer_tokens_max, **_gateway(settings))


def _gateway(settings: Settings) -> Mapping[str, Any]:
    portkey = settings.portkey
    return {
        "api_key": portkey.api_key.get_secret_value(),
        "virtual_key": portkey.virtual_key.get_secret_value(),
        "base_url": portkey.base_url,
        "timeout_s": portkey.timeout_s,
    }
