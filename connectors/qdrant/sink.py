"""Prompts as points in Qdrant, found by what they mean.

State      Collection `prompt_embeddings__{embedder}_{dimension}` behind the alias `prompt_embeddings`: cosine, HNSW,
           payload tenant, cluster, template. Collection `promptloom_sink_offsets`: where to go on reading.
Guarantee  At least once, and writing again changes nothing (`points.py`): the offsets move after the points. Qdrant
           has no compare-and-set, so one sink of a name must run at a time.
Modes      By URL: a server, which builds HNSW. By path: local mode, for one process, which compares with every
           point; it keeps the newest LOCAL_POINTS_MAX and lets the oldest go.

The client blocks, in local mode for good reason, so all calls run in one thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from connectors.qdrant.points import Change, Points, changes, ids_of
from schemas.errors import ServiceRefused, ServiceUnavailable, StateIncompatible
from schemas.ids import derive

log = logging.getLogger(__name__)

ALIAS = "prompt_embeddings"
OFFSETS = "promptloom_sink_offsets"
VECTOR = "text"  # named, because only a collection with named vectors takes a point whose vector is yet to come

# Local mode compares a query with every point: about 10 ms at this number of 256 dimensions. What is above it is
# let go in one step of LOCAL_POINTS_SLACK, because each step reopens the files to give the memory back.
LOCAL_POINTS_MAX = 20_000
LOCAL_POINTS_SLACK = 2_000

# A server's graph: 16 neighbours a point and 128 candidates while building give recall above .95 on text
# embeddings; more costs memory and writing time first.
HNSW = models.HnswConfigDiff(m=16, ef_construct=128)
TIMEOUT_S = 30
SCROLL_POINTS = 2_000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Similar:
    """A prompt near a vector; `similarity` is the cosine."""

    tenant: str
    prompt_id: str
    similarity: float
    cluster_id: str | None
    template_id: str | None


class QdrantSink:
    """The points of one embedder, in a folder (local mode) or on a server."""

    def __init__(
        self,
        embedder: str,
        dimension: int,
        *,
        path: Path | None = None,
        url: str = "",
        api_key: str = "",
        name: str = "qdrant",
        local_points_max: int = LOCAL_POINTS_MAX,
        local_points_slack: int = LOCAL_POINTS_SLACK,
    ) -> None:
        if (path is None) == (not url):
            raise ValueError("give either a path or a url")
        self.name = name
        self.embedder = embedder
        self.dimension = dimension
        self.collection = f"{ALIAS}__{re.sub(r'[^A-Za-z0-9.-]+', '-', embedder)}_{dimension}"
        self._path = path
        self._url = url
        self._api_key = api_key
        self._local_points_max = local_points_max
        self._local_points_slack = local_points_slack
        self._warned = False
        self._client: QdrantClient | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qdrant")

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return where to go on reading; a place without an entry starts at its beginning."""
        return await self._call("reading the sink's offsets", self._positions)

    async def write(
        self, batch: Sequence[Points], moves: Mapping[tuple[str, int], tuple[int | None, int]]
    ) -> dict[str, int]:
        """Write the points of a batch's records, then the offsets behind them."""
        return await self._call("writing points to Qdrant", lambda client: self._write(client, batch, moves))

    async def similar(
        self, vector: Sequence[float], *, k: int = 10, threshold: float = 0.0, tenant: str | None = None
    ) -> list[Similar]:
        """Return the `k` prompts nearest to a vector whose cosine is at least `threshold`, nearest first."""
        return await self._call("searching Qdrant", lambda client: _similar(client, list(vector), k, threshold, tenant))

    async def close(self) -> None:
        """Close the client, which frees the folder of local mode; another use opens it again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)

    async def _call(self, doing: str, action: Callable[[QdrantClient], Result]) -> Result:
        def run() -> Result:
            if self._client is None:
                self._client = self._open()
            return action(self._client)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except UnexpectedResponse as error:
            kind = ServiceRefused if error.status_code in (400, 401, 403) else ServiceUnavailable
            raise kind(f"{doing}: status {error.status_code}", hint="check qdrant.url and qdrant.api_key") from error
        except (ResponseHandlingException, OSError) as error:
            raise ServiceUnavailable(f"{doing}: {error}", hint="is Qdrant running?") from error

    # Everything below runs in the thread.

    def _open(self) -> QdrantClient:
        if self._path is None:
            client = QdrantClient(
                url=self._url, api_key=self._api_key or None, timeout=TIMEOUT_S, check_compatibility=False
            )
        else:
            try:
                client = QdrantClient(path=str(self._path))
            except RuntimeError as error:  # the folder's lock
                raise ServiceUnavailable(
                    f"opening Qdrant's folder {self._path}: {error}",
                    hint="local mode is for one process at a time; set qdrant.url to share a server",
                ) from error
        self._prepare(client)
        return client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _prepare(self, client: QdrantClient) -> None:
        """Create what is missing; refuse another embedder's points."""
        aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
        if aliases.get(ALIAS, self.collection) != self.collection:
            raise StateIncompatible(
                f"opening Qdrant: {ALIAS} holds the vectors of {aliases[ALIAS]}, not of {self.collection}",
                hint="vectors of two embedders cannot be compared; go back to that embedder, or remove the alias",
            )
        if not client.collection_exists(OFFSETS):
            client.create_collection(OFFSETS, vectors_config={})
        if not client.collection_exists(self.collection):
            client.create_collection(
                self.collection,
                vectors_config={VECTOR: models.VectorParams(size=self.dimension, distance=models.Distance.COSINE)},
                hnsw_config=HNSW,
            )
        if self._path is None:  # local mode has no payload indexes and says so loudly
            tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            client.create_payload_index(self.collection, "tenant", field_schema=tenant)
            for key in ("cluster", "template"):
                client.create_payload_index(self.collection, key, field_schema=models.PayloadSchemaType.KEYWORD)
        if ALIAS not in aliases:
            alias = models.CreateAlias(collection_name=self.collection, alias_name=ALIAS)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])

    def _positions(self, client: QdrantClient) -> dict[tuple[str, int], int]:
        mine = models.Filter(must=[models.FieldCondition(key="sink", match=models.MatchValue(value=self.name))])
        found = {}
        page = None
        while True:
            points, page = client.scroll(OFFSETS, scroll_filter=mine, limit=SCROLL_POINTS, offset=page)
            for payload in (point.payload or {} for point in points):
                found[payload["topic"], payload["partition"]] = payload["next_offset"]
            if page is None:
                return found

    def _write(
        self,
        client: QdrantClient,
        batch: Sequence[Points],
        moves: Mapping[tuple[str, int], tuple[int | None, int]],
    ) -> dict[str, int]:
        self._refuse_other_embedders(batch)
        stored = client.retrieve(self.collection, sorted(ids_of(batch)), with_payload=True)
        payloads = {str(point.id): point.payload or {} for point in stored}
        found = changes(batch, payloads)
        _upsert(client, self.collection, found, payloads)
        offsets = [self._offset_point(place, new) for place, (_, new) in moves.items()]
        if offsets:
            client.upsert(OFFSETS, offsets, wait=True)
        self._stay_small(client)
        return {ALIAS: len(found)}

    def _offset_point(self, place: tuple[str, int], next_offset: int) -> models.PointStruct:
        topic, partition = place
        payload = {"sink": self.name, "topic": topic, "partition": partition, "next_offset": next_offset}
        return models.PointStruct(id=derive("sink", self.name, topic, partition), vector={}, payload=payload)

    def _refuse_other_embedders(self, batch: Sequence[Points]) -> None:
        for points in batch:
            if points.embedder is not None and (points.embedder, points.dimension) != (self.embedder, self.dimension):
                raise StateIncompatible(
                    f"writing points: a frame holds vectors of {points.embedder} ({points.dimension}), "
                    f"the collection those of {self.embedder} ({self.dimension})",
                    hint="run the sink with the embedder the workers use",
                )

    def _stay_small(self, client: QdrantClient) -> None:
        """Let the oldest points of local mode go when there are too many."""
        if self._path is None:
            return
        count = client.count(self.collection).count
        if count <= self._local_points_max + self._local_points_slack:
            return
        if not self._warned:
            self._warned = True
            log.warning(
                "local Qdrant keeps the newest points only",
                extra={"points_max": self._local_points_max, "hint": "set qdrant.url"},
            )
        ages: list[tuple[int, str]] = []
        page = None
        while True:
            points, page = client.scroll(
                self.collection, limit=SCROLL_POINTS, offset=page, with_payload=["received_at_ms"]
            )
            ages += [((point.payload or {}).get("received_at_ms", 0), str(point.id)) for point in points]
            if page is None:
                break
        oldest: list[Any] = [identifier for _, identifier in sorted(ages)[: count - self._local_points_max]]
        client.delete(self.collection, models.PointIdsList(points=oldest))
        # The client only marks deleted points; opening the folder anew is what gives their memory back.
        self._drop()


def _upsert(
    client: QdrantClient, collection: str, found: Mapping[str, Change], payloads: Mapping[str, dict[str, Any]]
) -> None:
    """Write new points and late vectors whole, and only the payload of points that have theirs."""
    whole = [
        models.PointStruct(
            id=identifier,
            vector={} if change.vector is None else {VECTOR: change.vector},
            payload={**payloads.get(identifier, {}), **change.payload},
        )
        for identifier, change in found.items()
        if change.vector is not None or identifier not in payloads
    ]
    if whole:
        client.upsert(collection, whole, wait=True)
    payload_only: list[models.UpdateOperation] = [
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=change.payload, points=[identifier]))
        for identifier, change in found.items()
        if change.vector is None and identifier in payloads
    ]
    if payload_only:
        client.batch_update_points(collection, payload_only, wait=True)


def _similar(client: QdrantClient, vector: list[float], k: int, threshold: float, tenant: str | None) -> list[Similar]:
    only = None
    if tenant is not None:
        only = models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=tenant))])
    answer = client.query_points(
        ALIAS, query=vector, using=VECTOR, limit=k, score_threshold=threshold, query_filter=only, with_payload=True
    )
    return [
        Similar(payload["tenant"], payload["prompt_id"], point.score, payload.get("cluster"), payload.get("template"))
        for point in answer.points
        for payload in [point.payload or {}]
    ]
