"""The baseline: the same four stages as an idiomatic per-event Faust app.

Written as Faust's own guide teaches it: one agent a stage, one JSON event a prompt, models as
records, tables for state, at-least-once. It does the same real work (the same classifier, the
same embedder, cosine clustering with table-backed centroids, an aligned template a cluster) and
ends in Postgres in batches; of a rejected prompt it stores that it was there. What differs is what
promptloom is about: frames instead of events, units of work, the structural algorithm, exactly once.
Run as a child process by `python -m infra.bench`, which makes its topics and its table:

    faust -A infra.bench.baseline worker
"""

from __future__ import annotations

import difflib
import os
import re
import uuid

import asyncpg
import faust
import numpy as np
from numpy.typing import NDArray

from connectors.embedders.wordllama import WordllamaEmbedder
from connectors.moderators.offline import OfflineModerator

PREFIX = os.environ["BASELINE_PREFIX"]
PARTITIONS = int(os.environ["BASELINE_PARTITIONS"])
SIMILARITY_MIN = 0.85
THRESHOLD = 0.5
STORED_ROWS_MAX = 500
STORED_WITHIN_S = 0.1
INSERT = """
INSERT INTO baseline (prompt_id, tenant, text, cluster_id, template)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (prompt_id) DO NOTHING
"""

app = faust.App(
    PREFIX,
    broker=f"kafka://{os.environ['BASELINE_BOOTSTRAP']}",
    store="memory://",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    datadir=os.environ["BASELINE_DATADIR"],
    producer_max_request_size=4 * 1024 * 1024,
)


class Submitted(faust.Record):
    id: str
    text: str
    tenant: str = "default"


class Embedded(faust.Record):
    id: str
    tenant: str
    text: str
    vector: list[float]


class Clustered(faust.Record):
    id: str
    tenant: str
    text: str
    cluster_id: str
    similarity: float


class Canonicalized(faust.Record):
    id: str
    tenant: str
    text: str
    cluster_id: str
    template: str


prompts = app.topic(f"{PREFIX}-prompts", value_type=Submitted)
moderated = app.topic(f"{PREFIX}-moderated", value_type=Submitted)
embedded = app.topic(f"{PREFIX}-embedded", value_type=Embedded)
clustered = app.topic(f"{PREFIX}-clustered", value_type=Clustered)
canonicalized = app.topic(f"{PREFIX}-canonicalized", value_type=Canonicalized)
centroids = app.Table("centroids", default=dict, partitions=PARTITIONS)
templates = app.Table("templates", default=list, partitions=PARTITIONS)

moderator = OfflineModerator()
embedder = WordllamaEmbedder()

# A matrix beside the table: scanning a table of vectors in Python would be a straw man.
_ids: dict[str, list[str]] = {}
_matrix: dict[str, NDArray[np.float32]] = {}


@app.agent(prompts)
async def moderate(stream: faust.StreamT[Submitted]) -> None:
    async for prompt in stream:
        (scores,) = await moderator.score([prompt.text])
        if max(scores.values()) < THRESHOLD:
            await moderated.send(key=prompt.tenant, value=prompt)
        else:
            rejected = Canonicalized(id=prompt.id, tenant=prompt.tenant, text="", cluster_id="", template="")
            await canonicalized.send(key=prompt.tenant, value=rejected)


@app.agent(moderated)
async def embed(stream: faust.StreamT[Submitted]) -> None:
    async for prompt in stream:
        (vector,) = await embedder.embed([prompt.text])
        value = Embedded(id=prompt.id, tenant=prompt.tenant, text=prompt.text, vector=vector.tolist())
        await embedded.send(key=prompt.tenant, value=value)


@app.agent(embedded)
async def cluster(stream: faust.StreamT[Embedded]) -> None:
    async for prompt in stream:
        vector = np.asarray(prompt.vector, dtype=np.float32)
        cluster_id, similarity = nearest(prompt.tenant, vector)
        row = centroids[cluster_id] or {"n": 0, "vector": prompt.vector}
        n = row["n"] + 1
        moved = np.asarray(row["vector"]) + (vector - np.asarray(row["vector"])) / n
        centroids[cluster_id] = {"n": n, "vector": moved.tolist()}
        await clustered.send(
            key=prompt.tenant,
            value=Clustered(
                id=prompt.id, tenant=prompt.tenant, text=prompt.text, cluster_id=cluster_id, similarity=similarity
            ),
        )


def nearest(tenant: str, vector: NDArray[np.float32]) -> tuple[str, float]:
    """Return the cluster within reach, or a new one."""
    ids = _ids.setdefault(tenant, [])
    if ids:
        cosines = _matrix[tenant][: len(ids)] @ vector
        best = int(cosines.argmax())
        if cosines[best] >= SIMILARITY_MIN:
            return ids[best], float(cosines[best])
    else:
        _matrix[tenant] = np.zeros((64, len(vector)), dtype=np.float32)
    if len(ids) == len(_matrix[tenant]):
        _matrix[tenant] = np.concatenate([_matrix[tenant], np.zeros_like(_matrix[tenant])])
    _matrix[tenant][len(ids)] = vector
    ids.append(uuid.uuid4().hex)
    return ids[-1], 1.0


@app.agent(clustered)
async def canonicalize(stream: faust.StreamT[Clustered]) -> None:
    async for prompt in stream:
        tokens = re.findall(r"\s+|\w+|[^\w\s]", prompt.text)
        template = templates[prompt.cluster_id]
        templates[prompt.cluster_id] = aligned(template, tokens) if template else tokens
        await canonicalized.send(
            key=prompt.tenant,
            value=Canonicalized(
                id=prompt.id,
                tenant=prompt.tenant,
                text=prompt.text,
                cluster_id=prompt.cluster_id,
                template="".join(templates[prompt.cluster_id]),
            ),
        )


def aligned(template: list[str], tokens: list[str]) -> list[str]:
    """Return the template with what differs from the tokens as one slot each."""
    result: list[str] = []
    for operation, start, stop, _, _ in difflib.SequenceMatcher(None, template, tokens, autojunk=False).get_opcodes():
        if operation == "equal":
            result += template[start:stop]
        elif not result or result[-1] != "{{slot}}":
            result.append("{{slot}}")
    return result


@app.agent(canonicalized)
async def store(stream: faust.StreamT[Canonicalized]) -> None:
    connection = await asyncpg.connect(os.environ["BASELINE_DSN"])
    async for batch in stream.take(STORED_ROWS_MAX, within=STORED_WITHIN_S):
        rows = [(row.id, row.tenant, row.text, row.cluster_id, row.template) for row in batch]
        await connection.executemany(INSERT, rows)
