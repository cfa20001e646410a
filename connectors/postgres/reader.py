"""What the command line asks of the catalogue.

Reads only. Lists are bounded by the caller's limit and ordered to the last tie, so the same
tables always give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asyncpg import Connection

from connectors.postgres import queries
from connectors.postgres.connection import Database

MATCHES_MAX = 10  # of a shortened cluster id or a prompt id used by several tenants: enough to show the choice
EXAMPLES_SHOWN = 5
EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster with the newest version of its template; `version` and `template` are None while it has none.

    Names and description are a model's where one refined them: `named_by` is that model, empty = offline.
    """

    cluster_id: str
    tenant: str
    members: int
    retired: bool
    founded_at: datetime | None
    family_id: str | None
    family_name: str
    version: str | None
    template: str | None
    name: str
    description: str
    slot_names: tuple[str, ...]
    offline_name: str
    offline_family_name: str
    named_by: str
    family_named_by: str


@dataclass(frozen=True, slots=True)
class Version:
    template_id: str
    version: str
    template: str
    confidence: float
    members: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SlotDetail:
    """A slot under its name in the template, and what a model calls it and why ('' = no model did)."""

    name: str
    type: str
    optional: bool
    repeated: bool
    confidence: float
    examples_json: str
    statistics_json: str
    detail_json: str
    refined_name: str
    refined_reason: str


@dataclass(frozen=True, slots=True)
class Example:
    """A member of a cluster; `slots_json` maps slot name to value."""

    prompt_id: str
    text: str
    template_version: str | None
    slots_json: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ClusterDetail:
    """Everything `promptloom show` prints; versions and examples are newest first."""

    cluster: Cluster
    merged_cluster_ids: tuple[str, ...]
    versions: tuple[Version, ...]
    slots: tuple[SlotDetail, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Event:
    event_id: str
    type: str
    tenant: str
    cluster_id: str | None
    prompt_id: str
    previous_version: str | None
    new_version: str | None
    change_reason: str
    diff: str
    detected_by: str
    created_at: datetime
    name: str


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a prompt's assignment chain."""

    sequence: int
    current: bool
    cluster_id: str | None
    previous_cluster_id: str | None
    similarity: float
    confidence: float
    reasoning: str
    decision_json: str
    template_version: str | None
    slots_json: str
    raw: bool


@dataclass(frozen=True, slots=True)
class PromptHistory:
    """A prompt and why it is where it is; `text` is None when it was rejected."""

    prompt_id: str
    tenant: str
    text: str | None
    moderation_status: str
    moderation_json: str
    source: str
    created_at: datetime
    prompt_partition: int
    prompt_offset: int
    chain: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """The catalogue in numbers. Latencies are from the record in `prompts` to the row; None without prompts."""

    rows: Mapping[str, int]
    rejected: int
    clustered: int
    unclustered: int
    duplicate: int
    clusters: int
    templates: int
    events: Mapping[str, int]
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    span_s: float | None  # from the first prompt received to the last one written

    @property
    def prompts(self) -> int:
        """Return how many prompts reached an end here: what conservation counts."""
        return self.rejected + self.clustered + self.unclustered + self.duplicate


@dataclass(frozen=True, slots=True)
class Integrity:
    """What must be zero when everything has arrived."""

    unassigned: int  # allowed prompts without a current assignment
    gaps: int  # chains with a link missing


class Reader:
    """Answers questions over one connection."""

    def __init__(self, dsn: str) -> None:
        self._database = Database(dsn)

    async def close(self) -> None:
        await self._database.close()

    async def clusters(self, *, tenant: str | None = None, limit: int = 20) -> list[Cluster]:
        """Return the clusters with the most members, largest first."""
        async with self._database.connected("listing clusters") as connection:
            rows = await connection.fetch(queries.CLUSTERS, tenant, None, limit)
            return [_cluster(row) for row in rows]

    async def resolve(self, shortened: str) -> list[str]:
        """Return the ids of the clusters a shortened id may mean; a merged one means the one it ended in."""
        async with self._database.connected("finding a cluster") as connection:
            return [row[0] for row in await connection.fetch(queries.RESOLVE, shortened.lower(), MATCHES_MAX)]

    async def cluster(self, cluster_id: str, *, examples: int = EXAMPLES_SHOWN) -> ClusterDetail | None:
        """Return a cluster by its whole id."""
        async with self._database.connected("reading a cluster") as connection:
            row = await connection.fetchrow(queries.CLUSTERS, None, cluster_id, 1)
            if row is None:
                return None
            return ClusterDetail(
                cluster=_cluster(row),
                merged_cluster_ids=tuple(row[0] for row in await connection.fetch(queries.MERGED, cluster_id)),
                versions=await _all(connection, Version, queries.VERSIONS, cluster_id),
                slots=await _all(connection, SlotDetail, queries.SLOTS, cluster_id),
                examples=await _all(connection, Example, queries.EXAMPLES, cluster_id, examples),
            )

    async def events(
        self, *, tenant: str | None = None, cluster_id: str | None = None, limit: int = 20
    ) -> tuple[Event, ...]:
        """Return evolution events, newest first."""
        async with self._database.connected("reading events") as connection:
            return await _all(connection, Event, queries.EVENTS, tenant, cluster_id, limit)

    async def why(self, prompt_id: str, *, tenant: str | None = None) -> list[PromptHistory]:
        """Return the prompt with its chain of assignments; one entry a tenant that uses the id."""
        async with self._database.connected("reading a prompt") as connection:
            rows = await connection.fetch(queries.PROMPTS, prompt_id, tenant, MATCHES_MAX)
            return [
                PromptHistory(**row, chain=await _all(connection, Link, queries.CHAIN, prompt_id, row["tenant"]))
                for row in rows
            ]

    async def texts(self, *, tenant: str, limit: int) -> list[str]:
        """Return the newest prompts of a tenant that moderation allowed, oldest first."""
        async with self._database.connected("reading prompts") as connection:
            return [row[0] for row in reversed(await connection.fetch(queries.NEWEST_TEXTS, tenant, limit))]

    async def stats(self, *, since: datetime = EVER) -> Stats:
        """Return the catalogue in numbers, all of one moment; latencies and span of prompts received since then."""
        async with (
            self._database.connected("counting") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            counts = await connection.fetchrow(queries.PROMPT_COUNTS)
            latencies = await connection.fetchrow(queries.LATENCIES, since)
            return Stats(
                rows=await _amounts(connection, queries.ROWS),
                events=await _amounts(connection, queries.EVENT_COUNTS),
                latency_ms_p50=_number(latencies["ms_p50"]),
                latency_ms_p95=_number(latencies["ms_p95"]),
                span_s=_number(latencies["span_s"]),
                **counts,
            )

    async def integrity(self) -> Integrity:
        """Return what must be zero when everything has arrived."""
        async with self._database.connected("checking the chains") as connection:
            return Integrity(**await connection.fetchrow(queries.BROKEN_CHAINS))


def _cluster(row: Mapping[str, Any]) -> Cluster:
    return Cluster(**{**row, "slot_names": tuple(row["slot_names"])})


async def _all(connection: Connection, kind: Any, query: str, *arguments: object) -> tuple[Any, ...]:
    return tuple(kind(**row) for row in await connection.fetch(query, *arguments))


async def _amounts(connection: Connection, query: str) -> dict[str, int]:
    return {row["name"]: row["amount"] for row in await connection.fetch(query)}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
