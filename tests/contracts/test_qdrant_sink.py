"""The Qdrant sink in local mode: one point a prompt, whatever comes first and however often."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.qdrant.sink import QdrantSink, Similar
from schemas.errors import ServiceUnavailable, StateIncompatible, UndecodableRecord
from schemas.ids import template_id
from streams.engine.ports import Record
from streams.prompts.qdrant_points import points_of, space_of
from tests.sink_records import A, B, a_link, a_prompt, embedded_record, frame_record

NEAR = [1.0, 0.0]
NEARER = [0.8, 0.6]
FAR = [0.0, 1.0]

Open = Callable[..., QdrantSink]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Return a function that opens a sink on the test's folder; all are closed in the end."""
    sinks: list[QdrantSink] = []

    def open_one(embedder: str = "toy", dimension: int = 2, **changed: Any) -> QdrantSink:
        sinks.append(QdrantSink(embedder, dimension, path=tmp_path / "qdrant", **changed))
        return sinks[-1]

    yield open_one
    for sink in sinks:
        await sink.close()


@pytest.fixture
def sink(opened: Open) -> QdrantSink:
    return opened()


async def write(sink: QdrantSink, *records: Record) -> None:
    moves: dict[tuple[str, int], tuple[int | None, int]] = {
        (record.topic, record.partition): (None, record.offset + 1) for record in records
    }
    await sink.write([points_of(record) for record in records], moves)


def story() -> list[Record]:
    p1, p2, p3 = a_prompt(1), a_prompt(2), a_prompt(3, tenant="other")
    return [
        embedded_record(0, p1, p2, p3, vectors=[NEAR, FAR, NEAR]),
        frame_record(0, a_link(p1, None), a_link(p2, B), a_link(p3, None)),
        frame_record(1, a_link(p1, A, 1)),
    ]


FOUND = [
    Similar("acme", "p1", pytest.approx(0.8), A, template_id(A, "1.0.0")),  # type: ignore[arg-type]
    Similar("acme", "p2", pytest.approx(0.6), B, template_id(B, "1.0.0")),  # type: ignore[arg-type]
]


async def test_the_nearest_prompts_of_a_tenant_are_found_with_cluster_and_template(sink: QdrantSink) -> None:
    await write(sink, *story())
    assert await sink.similar(NEARER, tenant="acme") == FOUND
    assert await sink.similar(NEARER, tenant="acme", k=1) == FOUND[:1]
    assert await sink.similar(NEARER, tenant="acme", threshold=0.7) == FOUND[:1]
    assert {found.tenant for found in await sink.similar(NEARER)} == {"acme", "other"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_order_of_the_topics_and_repeats_do_not_matter(sink: QdrantSink, order: Sequence[int]) -> None:
    records = story()
    for _ in range(2):
        for number in order:
            await write(sink, records[number])
        assert await sink.similar(NEARER, tenant="acme") == FOUND


async def test_the_first_vector_of_an_id_stays(sink: QdrantSink) -> None:
    await write(sink, embedded_record(0, a_prompt(1), vectors=[NEAR]))
    await write(sink, embedded_record(1, a_prompt(1, "another text", offset=9), vectors=[FAR]))
    (found,) = await sink.similar(NEAR)
    assert found.similarity == pytest.approx(1.0)


async def test_a_duplicate_changes_nothing(sink: QdrantSink) -> None:
    await write(sink, *story())
    await write(sink, frame_record(2, a_link(a_prompt(1, offset=9), B, 7, duplicate=True)))
    assert await sink.similar(NEARER, tenant="acme") == FOUND


async def test_points_and_offsets_survive_a_restart(opened: Open, sink: QdrantSink) -> None:
    assert await sink.positions() == {}
    await write(sink, *story())
    await sink.close()
    again = opened()
    assert await again.positions() == {("prompts-embedded", 0): 1, ("prompts-canonicalized", 0): 2}
    assert await again.similar(NEARER, tenant="acme") == FOUND


async def test_another_embedders_vectors_are_refused(opened: Open, sink: QdrantSink) -> None:
    await write(sink, *story())
    with pytest.raises(StateIncompatible, match="other"):
        await write(sink, embedded_record(1, a_prompt(4), vectors=[NEAR], embedder="other"))
    await sink.close()
    with pytest.raises(StateIncompatible, match="prompt_embeddings__toy_2"):
        await opened(embedder="other").positions()


# The client leaves the lock file it could not get for the collector to close.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*lock")
async def test_a_folder_another_process_holds_is_named(opened: Open, sink: QdrantSink) -> None:
    await sink.positions()
    with pytest.raises(ServiceUnavailable) as held:
        await opened().positions()
    assert "one process" in held.value.hint
    del held
    gc.collect()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    sink = QdrantSink("toy", 2, url="http://127.0.0.1:1")
    with pytest.raises(ServiceUnavailable):
        await sink.positions()
    await sink.close()


async def test_local_mode_keeps_the_newest_and_says_so_once(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    sink = opened(local_points_max=5, local_points_slack=2)
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            await write(sink, embedded_record(number, a_prompt(number), vectors=[NEAR]))
            kept = sorted(int(found.prompt_id[1:]) for found in await sink.similar(NEAR, k=100))
            assert kept == list(range(kept[0], number + 1)), "only the oldest may go"
            assert len(kept) <= 7
    assert [record.message for record in caplog.records] == ["local Qdrant keeps the newest points only"]


def test_a_frame_tells_its_embedder_and_dimension() -> None:
    assert space_of(embedded_record(0, a_prompt(1), vectors=[NEAR])) == ("toy", 2)


def test_a_block_of_the_wrong_size_is_undecodable() -> None:
    record = embedded_record(0, a_prompt(1), vectors=[NEAR, FAR])
    with pytest.raises(UndecodableRecord, match="16 bytes are not 1 x 2"):
        points_of(record)
