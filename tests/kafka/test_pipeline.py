"""The whole pipeline, from a record in `prompts` to rows in Postgres: what arrives, and what a crash changes.

Every test counts: what was produced ended as rejected, clustered, unclustered, duplicate or dead letter.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from connectors.dataset import find, shipped
from schemas.limits import MIB
from schemas.prompts import PromptSubmitted
from schemas.topics import DEAD_LETTERS, PROMPTS_CANONICALIZED
from streams.engine import frames
from streams.engine.partitioning import partition_of
from streams.prompts.replay import Options, replay
from tests.kafka.pipeline import PARTITIONS, WORKER, Pipeline, running

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]

REGISTRY_ID = 7
REGISTERED: dict[str, Any] = {
    "type": "record",
    "name": "Submission",
    "fields": [{"name": name, "type": "string"} for name in ("id", "tenant", "text")],
}
REJECTING = {"strict": {"all": 0.0}}  # a tenant whose every prompt is rejected, whatever the moderator thinks

THINGS = ("rain", "wood", "glass", "bread", "rivers", "stones", "clouds", "metal", "paper", "honey")

TENANTS = 10_000
# 170 MiB of them are the program and its models; each tenant may add what its state and caches take.
WORKER_RSS_BYTES_MAX = 768 * MIB

REPLAYED = {"support.jsonl": 1_250, "europe.csv": 250}  # prompts taken of files whose prompts carry their time
# What must come out the same, whatever happened on the way. Offsets and times of arrival do differ.
CONTENT = {
    "prompts": "SELECT tenant, prompt_id, text, moderation_status, created_at FROM prompts",
    "assignments": "SELECT tenant, prompt_id, sequence, current, cluster_id, previous_cluster_id, template_version,"
    " slots, raw FROM cluster_assignments",
    "repeats": "SELECT prompt_id, outcome FROM prompt_repeats",
    "clusters": "SELECT cluster_id, merged_into, split_from, retired, dissolved, founded_at FROM clusters",
    "templates": "SELECT template_id, cluster_id, version, template, slots, members FROM canonical_templates",
    "events": "SELECT event_id, type, cluster_id, prompt_id, previous_version, new_version, diff FROM evolution_events",
    "families": "SELECT mapping.cluster_id, family_id, name FROM family_cluster_mappings AS mapping"
    " JOIN prompt_families USING (family_id)",
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Return a pipeline that nothing disturbs; the tests share it, each with tenants of its own."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / f"{REGISTRY_ID}.avsc").write_text(json.dumps(REGISTERED))
    with running(
        folder,
        PROMPTLOOM_KAFKA__SCHEMA_REGISTRY_URL=folder.as_uri(),
        PROMPTLOOM_MODERATION__TENANTS=json.dumps(REJECTING),
    ) as started:
        yield started


def test_prompts_in_three_encodings_arrive_as_clusters_templates_and_events(pipeline: Pipeline) -> None:
    makers = {"json": as_json, "avro": as_avro, "confluent": as_confluent}
    for number in range(90):
        encoding = list(makers)[number % len(makers)]
        # One tenant over all encodings, so that they meet in one cluster.
        pipeline.send(makers[encoding](f"{encoding}-{number}", "loom", lesson(number)), partition=number % PARTITIONS)
    pipeline.send(as_json("json-0", "loom", lesson(0)))
    pipeline.send(as_json("no", "strict", lesson(0)))
    pipeline.send(b"nothing that can be read")
    pipeline.settle()
    assert_conserved(pipeline)

    members = pipeline.query(
        "SELECT split_part(prompt_id, '-', 1), text, template, link.slots FROM cluster_assignments AS link"
        " JOIN prompts USING (prompt_id, tenant) JOIN canonical_templates USING (template_id)"
        " WHERE link.tenant = 'loom' AND link.current"
    )
    assert {encoding for encoding, *_ in members} == set(makers)
    for _, text, template, slots in members:
        assert filled(template, slots) == text
    assert pipeline.query(
        "SELECT count(DISTINCT cluster_id) FROM cluster_assignments WHERE tenant = 'loom' AND current"
    ) == [(1,)]
    assert pipeline.query("SELECT count(*) FROM template_slots JOIN canonical_templates USING (template_id)")[0][0] >= 2
    types = {row[0] for row in pipeline.query("SELECT type FROM evolution_events WHERE tenant = 'loom'")}
    assert "CREATED" in types


def test_ten_thousand_tenants_with_a_prompt_each_all_arrive(pipeline: Pipeline) -> None:
    for number in range(TENANTS):
        tenant = f"tenant-{number}"
        text = f"Write a short poem about the number {number}."
        pipeline.send({"tenant": tenant, "text": text}, partition=partition_of(tenant, PARTITIONS))
    pipeline.settle()
    assert_conserved(pipeline)
    assert pipeline.query(
        "SELECT count(*), count(DISTINCT tenant) FROM cluster_assignments WHERE tenant LIKE 'tenant-%%' AND current"
    ) == [(TENANTS, TENANTS)]
    assert rss_bytes(pipeline) < WORKER_RSS_BYTES_MAX


def test_a_worker_killed_in_the_middle_of_a_replay_leaves_what_an_undisturbed_one_leaves(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    tenants = send_files(pipeline, tmp_path / "undisturbed")
    pipeline.settle()
    with running(tmp_path) as disturbed:
        disturbed.until(lambda: "sessions open" in disturbed.logs(), what="the worker is at work")
        send_files(disturbed, tmp_path / "disturbed")
        disturbed.until(lambda: bool(disturbed.seen(PROMPTS_CANONICALIZED.name)), what="first prompts are through")
        disturbed.local.kill(WORKER)
        through = len(disturbed.links())
        assert through < disturbed.produced, "the worker was through before it could be killed"
        disturbed.local.start(WORKER)
        disturbed.settle()
        assert not disturbed.seen(DEAD_LETTERS.name)
        after = content(disturbed, tenants)
    expected = content(pipeline, tenants)
    assert len(expected["prompts"]) + len(expected["repeats"]) == disturbed.produced
    for name, rows in expected.items():
        assert after[name] == rows, name


def assert_conserved(pipeline: Pipeline) -> None:
    """Check that each record produced so far ended in one place, in Postgres and in the worker's metrics alike."""
    stats = pipeline.stats()
    letters = len(pipeline.seen(DEAD_LETTERS.name))
    assert stats.rejected + stats.clustered + stats.unclustered + stats.duplicate + letters == pipeline.produced
    integrity = pipeline.ask(lambda reader: reader.integrity())
    assert (integrity.unassigned, integrity.gaps) == (0, 0)

    outcomes = pipeline.metric("prompts")
    assert outcomes["received"] == pipeline.produced
    assert (outcomes["rejected"], outcomes["duplicate"]) == (stats.rejected, stats.duplicate)
    # A prompt counts where it first ended; afterwards it may move into a cluster, or out of one.
    assert outcomes.get("clustered", 0) + outcomes["unclustered"] == stats.clustered + stats.unclustered
    assert sum(pipeline.metric("dead_letters").values()) == letters
    assert sum(pipeline.metric("evolution_events").values()) == sum(stats.events.values())


def lesson(number: int) -> str:
    """Return a prompt of one template with four slots."""
    thing, other = THINGS[number % 10], THINGS[number // 10]
    return (
        f"You are a patient teacher. Explain to a child of {number % 9 + 3} years why {thing} and {other}"
        f" {('melt', 'bend', 'grow', 'break')[number % 4]}, in at most three sentences and without foreign words."
    )


def as_json(prompt_id: str, tenant: str, text: str) -> bytes:
    return json.dumps({"id": prompt_id, "tenant": tenant, "text": text}).encode()


def as_avro(prompt_id: str, tenant: str, text: str) -> bytes:
    header = frames.MARKER + frames.fingerprint_of(PromptSubmitted)
    return header + avro_body(frames.schema_of(PromptSubmitted), {"id": prompt_id, "tenant": tenant, "text": text})


def as_confluent(prompt_id: str, tenant: str, text: str) -> bytes:
    return struct.pack(">bI", 0, REGISTRY_ID) + avro_body(REGISTERED, {"id": prompt_id, "tenant": tenant, "text": text})


def avro_body(schema: dict[str, Any], fields: dict[str, str]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, fields)
    return body.getvalue()


def filled(template: str, slots: dict[str, str]) -> str:
    for name, value in slots.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def send_files(pipeline: Pipeline, folder: Path) -> list[str]:
    """Replay the first prompts of some files; return their tenants."""
    for name, limit in REPLAYED.items():
        files = [file for file in find(shipped()) if file.path.name == name]
        summary = replay(files, pipeline.kafka, folder=folder, report=folder / "bad", options=Options(limit=limit))
        assert summary.sent == limit
        pipeline.produced += limit
    return [Path(name).name.partition(".")[0] for name in REPLAYED]


def content(pipeline: Pipeline, tenants: list[str]) -> dict[str, list[str]]:
    """Return the rows of the tenants, in an order of their own."""
    found = {}
    for name, query in CONTENT.items():
        rows = pipeline.query(f"{query} WHERE tenant = ANY(%s)", tenants)
        found[name] = sorted(repr(row) for row in rows)
        assert rows, name
    return found


def rss_bytes(pipeline: Pipeline) -> int:
    """Return how much memory the worker has taken at most."""
    status = Path(f"/proc/{pipeline.local.children[WORKER].identity.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
