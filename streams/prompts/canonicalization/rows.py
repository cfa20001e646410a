"""Rows of the tables `templates` and `families`, and back.

Keys begin with `tenant/`. A cluster is one head row (`tenant/cluster`) and one row a kept text (`tenant/cluster#7`),
so that a new member writes a small head and one text, not the whole pool.

    templates   tenant/<cluster>           head: counts, roles of the pool's places, versions, sketches
                tenant/<cluster>#<place>   one kept text
    families    tenant/                    the tenant's prompt count
                tenant/<family>            name, description, clusters
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from operator import is_
from typing import Any

import numpy as np
import orjson

from schemas import ids
from schemas.errors import StateIncompatible
from streams.prompts.canonicalization.cluster import ClusterState, Sample, Version
from streams.prompts.canonicalization.families import Family
from streams.prompts.canonicalization.slots import Sketch
from streams.prompts.canonicalization.template import Template

FORMAT = 5  # the first byte of a head row
TEMPLATES, FAMILIES = "templates", "families"
TABLES = (TEMPLATES, FAMILIES)
_PLAIN_FIELDS = """
cluster_id born_at members arrivals newest_id partition offset received_at_ms occurred_at_ms family_id since_version
steady learn_at look_at strange drifts earlier loosened succeeded_by split_from recent base odd
"""
PLAIN_FIELDS = _PLAIN_FIELDS.split()
PLAIN_BYTES_MAX = 2_048  # of a cluster's counts: of a few slots. Compressing takes a tenth of a millisecond or two
_HEAD = struct.Struct("<BII")  # format, bytes of the wording, bytes of the counts


def pack(value: object) -> bytes:
    return zlib.compress(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), 1)


def unpack(row: bytes) -> Any:
    return orjson.loads(zlib.decompress(row))


def head_of(state: ClusterState) -> bytes:
    """Return a cluster's head row: its length marks, its wording, its counts, and the hashes of its sketches.

    A head is written with each unit that brings its cluster a member. So the wording is compressed when it changed,
    counts only where there are many, and hashes never: they are random.
    """
    wording = _wording_of(state)
    counts = orjson.dumps(
        {
            **{name: getattr(state, name) for name in PLAIN_FIELDS},
            "sketches": [
                [s.seen, s.empty, s.lengths, len(s.hashes), list(s.top.items()), s.changes, s.newest]
                for s in state.sketches
            ],
        },
        option=orjson.OPT_NON_STR_KEYS,
    )
    if len(counts) > PLAIN_BYTES_MAX:
        counts = zlib.compress(counts, 1)
    hashes = (np.array(sketch.hashes, dtype="<u8").tobytes() for sketch in state.sketches)
    return b"".join((_HEAD.pack(FORMAT, len(wording), len(counts)), wording, counts, *hashes))


def head_from(row: bytes) -> ClusterState:
    if row[0] != FORMAT:
        raise StateIncompatible("reading a row of `templates`: written in another format", hint="promptloom rebuild")
    _, wording_size, counts_size = _HEAD.unpack_from(row)
    at = _HEAD.size + wording_size
    counts = row[at : at + counts_size]
    wording, fields = unpack(row[_HEAD.size : at]), orjson.loads(counts) if counts[:1] == b"{" else unpack(counts)
    hashes = array("Q", np.frombuffer(row, dtype="<u8", offset=at + counts_size).astype(np.uint64).tobytes())
    state = ClusterState(**{name: fields[name] for name in PLAIN_FIELDS})
    state.template = _template_in(wording["template"])
    state.varied = _template_in(wording["varied"])
    state.versions = [
        Version(number, _template_of(template), ids.template_id(state.cluster_id, number))
        for number, template in wording["versions"]
    ]
    start = 0
    for seen, empty, lengths, kept, top, changes, newest in fields["sketches"]:
        by_digits = {int(digits): count for digits, count in lengths.items()}
        state.sketches.append(Sketch(seen, empty, by_digits, hashes[start : start + kept], dict(top), changes, newest))
        start += kept
    return state


def _wording_of(state: ClusterState) -> bytes:
    """Return a cluster's templates, packed: they seldom change, and are packed when they did."""
    known = (state.template, state.varied, *state.versions)
    packed = state.packed
    if packed is None or len(packed[0]) != len(known) or not all(map(is_, packed[0], known)):
        wording = {
            "template": _template_out(state.template),
            "varied": _template_out(state.varied),
            "versions": [[version.number, _template_out(version.template)] for version in state.versions],
        }
        packed = state.packed = known, pack(wording)
    return packed[1]


def family_to(family: Family) -> bytes:
    return pack(asdict(family))


def sample_to(sample: Sample) -> bytes:
    # A lone surrogate is no JSON; it travels as the bytes it came as.
    text = sample.text.encode("utf-8", "surrogatepass")
    head = orjson.dumps([sample.prompt_id, sample.meaning, sample.reading, sample.arrived])
    return zlib.compress(head + b"\n" + text, 1)


def sample_from(row: bytes) -> Sample:
    head, text = zlib.decompress(row).split(b"\n", 1)
    prompt_id, meaning, reading, arrived = orjson.loads(head)
    return Sample(prompt_id, text.decode("utf-8", "surrogatepass"), meaning, reading, arrived)


def load(tenant: str, rows: Iterable[tuple[str, str, bytes]]) -> tuple[int, dict[str, ClusterState], dict[str, Family]]:
    """Rebuild a tenant's prompt count, clusters and families; `rows` come in any order."""
    clock, clusters, families = 0, {}, {}
    samples: list[tuple[str, int, Sample]] = []
    for table, key, row in rows:
        rest = key.removeprefix(f"{tenant}/")
        if table == FAMILIES:
            if rest:
                families[rest] = Family(**unpack(row))
            else:
                clock = unpack(row)["clock"]
        elif "#" in rest:
            cluster_id, number = rest.rsplit("#", 1)
            samples.append((cluster_id, int(number), sample_from(row)))
        else:
            clusters[rest] = head_from(row)
    for cluster, place, sample in sorted(samples, key=lambda item: item[:2]):
        clusters[cluster].restore(place, sample)
    return clock, clusters, families


def _template_out(template: Template | None) -> list[list[str]] | None:
    return [list(template.constants), list(template.names)] if template else None


def _template_of(fields: list[list[str]]) -> Template:
    return Template(tuple(fields[0]), tuple(fields[1]))


def _template_in(fields: list[list[str]] | None) -> Template | None:
    return _template_of(fields) if fields else None
