"""How the state lies in table rows.

    centroids    tenant/cluster_id   counts and centroid of a cluster; tenant/ (no id): the tenant's counters
    signatures   tenant/cluster_id   its constants, 8 bytes each
    members      tenant/number       a prompt kept in the sample of a cluster
    waiting      tenant/number       a prompt that waits for a cluster
    recent_ids   tenant/segment      hashes of prompt ids and texts, 24 bytes each

There is no table of weights: they follow exactly from signatures and kept prompts. A prompt's row is written when it
is kept, when it moves, and deleted when it leaves. A row opens with the format's number.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np
import orjson

from schemas.errors import StateIncompatible
from schemas.prompts import Moderation, Prompt
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.state import State

CENTROIDS, SIGNATURES, MEMBERS, WAITING, RECENT_IDS = "centroids", "signatures", "members", "waiting", "recent_ids"
TABLES = (CENTROIDS, SIGNATURES, MEMBERS, WAITING, RECENT_IDS)
FORMAT = 5
_ZLIB_LEVEL = 1  # half the gain of level 9 at a tenth of its time
_COUNTERS = struct.Struct("<BQQQB")
_CLUSTER = struct.Struct("<BBQQQQQI")
_KEPT = struct.Struct("<BQII")

Row = tuple[str, str, bytes | None]


def encode_counters(state: State) -> bytes:
    head = _COUNTERS.pack(FORMAT, state.now, state.next_ordinal, state.repair_cursor, state.repair_slice)
    return head + state.embedder.encode()


def encode_cluster(cluster: Cluster) -> bytes:
    head = _CLUSTER.pack(
        FORMAT,
        cluster.retired,
        cluster.ordinal,
        cluster.born,
        cluster.fed,
        cluster.check_at,
        cluster.size,
        cluster.centroid_members,
    )
    return head if cluster.retired else head + cluster.centroid.astype("<i4").tobytes()


def encode_signature(signature: Shingles) -> bytes:
    return bytes([FORMAT]) + signature.array.astype("<i8").tobytes()


def encode_kept(kept: Kept) -> bytes:
    head = _KEPT.pack(FORMAT, kept.home or 0, kept.sequence, len(kept.vector))
    body = orjson.dumps([kept.prompt.model_dump(mode="json"), kept.moderation.model_dump(mode="json")])
    return head + kept.vector.tobytes() + zlib.compress(body, _ZLIB_LEVEL)


def restore(state: State, rows: Iterable[tuple[str, str, bytes]]) -> list[tuple[int, bytes]]:
    """Fill an empty state from (table, key, value) rows; return the segments of recent ids.

    Raises:
        StateIncompatible: a row has another format or another dimension.
    """
    by_table: dict[str, list[tuple[str, bytes]]] = {table: [] for table in TABLES}
    for table, key, value in rows:
        if value[0] != FORMAT and table != RECENT_IDS:
            raise StateIncompatible(
                f"reading a row of {table}: format {value[0]}, expected {FORMAT}",
                hint="rebuild the state of this topic, or run the version that wrote it",
            )
        by_table[table].append((key.rpartition("/")[2], value))
    by_id: dict[str, Cluster] = {}
    for name, value in by_table[CENTROIDS]:
        if name:
            by_id[name] = _decode_cluster(name, value, state.dimension)
        else:
            _, state.now, state.next_ordinal, state.repair_cursor, state.repair_slice = _COUNTERS.unpack_from(value)
            state.embedder = value[_COUNTERS.size :].decode()
    for cluster in sorted(by_id.values(), key=lambda one: one.ordinal):
        state.install(cluster)
    for name, value in by_table[SIGNATURES]:
        state.sign(by_id[name], Shingles(np.frombuffer(value, dtype="<i8", offset=1).astype(np.int64)))
    for table in (MEMBERS, WAITING):
        for name, value in sorted(by_table[table], key=lambda row: int(row[0])):
            state.readmit(_decode_kept(int(name), table, value))
    for cluster in by_id.values():
        state.refresh(cluster)
    state.forget_changes()
    return [(int(name), value) for name, value in by_table[RECENT_IDS]]


def changes(state: State, tenant: str) -> list[Row]:
    """Return the rows that changed since the last call, each once."""
    rows: list[Row] = [(table, f"{tenant}/{name}", None) for table, name in state.removed_rows]
    for number in sorted(state.changed_kept):
        kept = state.kept[number]
        table = WAITING if kept.home is None else MEMBERS
        if kept.row_table not in (None, table):
            rows.append((str(kept.row_table), f"{tenant}/{number}", None))
        kept.row_table = table
        rows.append((table, f"{tenant}/{number}", encode_kept(kept)))
    for ordinal in sorted(state.changed_clusters):
        cluster = state.clusters[ordinal]
        rows.append((CENTROIDS, f"{tenant}/{cluster.cluster_id}", encode_cluster(cluster)))
    for ordinal in sorted(state.changed_signatures):
        cluster = state.clusters[ordinal]
        rows.append((SIGNATURES, f"{tenant}/{cluster.cluster_id}", encode_signature(cluster.signature)))
    rows.append((CENTROIDS, f"{tenant}/", encode_counters(state)))
    state.forget_changes()
    return rows


def _decode_cluster(cluster_id: str, value: bytes, dimension: int) -> Cluster:
    _, retired, ordinal, born, fed, check_at, size, centroid_members = _CLUSTER.unpack_from(value)
    centroid = np.zeros(dimension)
    if not retired:
        stored = np.frombuffer(value, dtype="<i4", offset=_CLUSTER.size)
        if stored.size != dimension:
            raise StateIncompatible(
                f"reading a centroid: {stored.size} dimensions, the embedder has {dimension}",
                hint="another embedder needs its own state: promptloom rebuild",
            )
        centroid[:] = stored
    return Cluster(ordinal, cluster_id, born, fed, check_at, size, centroid, centroid_members, retired=bool(retired))


def _decode_kept(number: int, table: str, value: bytes) -> Kept:
    _, home, sequence, dimension = _KEPT.unpack_from(value)
    vector = np.frombuffer(value, dtype=np.int8, count=dimension, offset=_KEPT.size).copy()
    prompt, moderation = orjson.loads(zlib.decompress(value[_KEPT.size + dimension :]))
    return Kept(
        number,
        Prompt.model_validate(prompt),
        Moderation.model_validate(moderation),
        vector,
        sequence,
        home or None,
        table,
    )
