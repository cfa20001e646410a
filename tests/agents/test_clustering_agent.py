"""The agent of clustering on an engine without a broker: what a unit publishes, and what a failed one leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest

from connectors.embedders.wordllama import DIMENSION
from schemas.errors import ConflictingDuplicate, SchemaUnavailable, StateIncompatible, UndecodableRecord
from schemas.limits import FRAME_BYTES_MAX, FRAME_PROMPTS_MAX, RECORD_BYTES_MAX
from schemas.prompts import ClusteredFrame, ClusteredStep, EmbeddedFrame, ModeratedPrompt, Prompt
from schemas.topics import PROMPTS, PROMPTS_CLUSTERED, PROMPTS_EMBEDDED
from streams.engine import frames
from streams.engine.ports import Record
from streams.prompts.clustering import agent
from streams.prompts.clustering.policy import Policy
from tests.clustering import EMBEDDER, ONE_OFFS, REPLY, a_prompt, assignments, busy_stream, changes, filled, vector_of
from tests.fakes import FakeEngine, FakeUnit, NoSchemas, a_record
from tests.wire import MODERATION

PARTITION = 3


@pytest.fixture
def engine() -> FakeEngine:
    return an_engine()


def an_engine() -> FakeEngine:
    engine = FakeEngine()
    agent.attach(engine, policy=Policy(), schemas=NoSchemas())
    return engine


def prompts(texts: Sequence[str], *, start: int = 0, tenant: str = "acme") -> list[Prompt]:
    return [a_prompt(number, text, tenant=tenant) for number, text in enumerate(texts, start)]


def record(of: Sequence[Prompt], *, embedder: str = EMBEDDER) -> Record:
    vectors = np.stack([vector_of(prompt.text) for prompt in of]).astype("<f4").tobytes()
    moderated = tuple(ModeratedPrompt(prompt=prompt, moderation=MODERATION) for prompt in of)
    frame = EmbeddedFrame(embedder=embedder, dimension=DIMENSION, vectors=vectors, prompts=moderated)
    return a_record(frames.encode(frame), topic=PROMPTS_EMBEDDED.name, partition=PARTITION)


def unknown_schema() -> Record:
    return a_record(b"\xc3\x01" + bytes(8) + b"x", topic=PROMPTS_EMBEDDED.name, partition=PARTITION)


async def run(engine: FakeEngine, *records: Record) -> FakeUnit:
    return await engine.run(agent.STAGE, records, partition=PARTITION)


def clustered(*units: FakeUnit) -> list[ClusteredFrame]:
    return [
        frames.decode(ClusteredFrame, sent.value or b"")
        for unit in units
        for sent in unit.sent_to(PROMPTS_CLUSTERED.name)
    ]


def steps(*units: FakeUnit) -> list[ClusteredStep]:
    return [step for frame in clustered(*units) for step in frame.steps]


def table_rows(engine: FakeEngine) -> dict[str, dict[int, dict[str, bytes]]]:
    return {name: dict(table.rows) for name, table in engine.tables.items()}


async def test_every_prompt_is_answered_once_in_order_on_its_partition(engine: FakeEngine) -> None:
    texts = busy_stream()
    unit = await run(engine, record(prompts(texts[:40])), record(prompts(texts[40:90], start=40)))
    first = [one.prompt.prompt_id for one in assignments(steps(unit)) if one.sequence == 0]
    assert first == [f"p{number}" for number in range(90)]
    assert {sent.partition for sent in unit.sent} == {PARTITION}
    assert {frame.embedder for frame in clustered(unit)} == {EMBEDDER}
    assert changes(steps(unit))


async def test_units_cut_anywhere_and_restores_between_them_change_nothing(engine: FakeEngine) -> None:
    whole = prompts(busy_stream())
    one = await run(engine, record(whole))
    other = an_engine()
    units = []
    for start in range(0, len(whole), 23):
        units.append(await run(other, record(whole[start : start + 23])))
        other.restore()
    assert steps(one) == steps(*units)
    assert table_rows(engine) == table_rows(other)


async def test_tenants_of_one_frame_do_not_meet(engine: FakeEngine) -> None:
    texts = [*ONE_OFFS, *filled(REPLY, 8)]
    both = [prompt for text, n in zip(texts, range(99), strict=False) for prompt in (
        a_prompt(n, text, tenant="acme"), a_prompt(n, text, tenant="globex"))]  # fmt: skip
    unit = await run(engine, record(both))
    founded = changes(steps(unit))
    assert {change.tenant for change in founded} == {"acme", "globex"}
    assert len({change.cluster_id for change in founded}) == 2
    assert not any(one.duplicate for one in assignments(steps(unit)))


async def test_a_duplicate_is_passed_on_as_one(engine: FakeEngine) -> None:
    first, *_ = again = prompts(ONE_OFFS[:3])
    unit = await run(engine, record([*again, first]))
    assert [one.duplicate for one in assignments(steps(unit))] == [False, False, False, True]
    assert not unit.dead_letters


async def test_a_conflicting_duplicate_alone_goes_to_the_dead_letters_as_it_was_sent(engine: FakeEngine) -> None:
    texts = filled(REPLY, 12)
    conflicting = a_prompt(77, "another text", prompt_id="p3")
    unit = await run(engine, record([*prompts(texts[:8]), conflicting, *prompts(texts[8:], start=8)]))
    (letter,) = unit.dead_letters
    assert isinstance(letter.error, ConflictingDuplicate)
    assert (letter.record.topic, letter.record.partition, letter.record.offset) == ("prompts", 3, 77)
    submitted = orjson.loads(letter.record.value or b"")
    assert (submitted["id"], submitted["text"], submitted["tenant"]) == ("p3", "another text", "acme")
    other = an_engine()
    assert steps(unit) == steps(await run(other, record(prompts(texts))))
    assert table_rows(engine) == table_rows(other)


async def test_a_unit_that_fails_leaves_no_engine_ahead_of_the_tables(engine: FakeEngine) -> None:
    whole = prompts(busy_stream()[:120])
    await run(engine, record(whole[:60]))
    with pytest.raises(StateIncompatible):
        await run(engine, record(whole[60:]), record(prompts(["x"], start=999), embedder="another"))
    again = await run(engine, record(whole[60:]))
    other = an_engine()
    await run(other, record(whole[:60]))
    assert steps(again) == steps(await run(other, record(whole[60:])))
    assert table_rows(engine) == table_rows(other)


async def test_a_failed_first_unit_leaves_nothing(engine: FakeEngine) -> None:
    whole = prompts(busy_stream()[:30])
    with pytest.raises(StateIncompatible):
        await run(engine, record(whole), record(prompts(["x"], start=999), embedder="another"))
    assert not any(rows for table in engine.tables.values() for rows in table.rows.values())
    unit = await run(engine, record(whole))
    assert not any(one.duplicate for one in assignments(steps(unit)))


async def test_frames_end_at_the_limit_of_prompts(engine: FakeEngine) -> None:
    unit = await run(engine, record(prompts(busy_stream())))
    sizes = [len(frame.steps) for frame in clustered(unit)]
    assert len(sizes) > 1
    assert max(sizes) <= FRAME_PROMPTS_MAX


async def test_frames_end_at_the_limit_of_bytes(engine: FakeEngine) -> None:
    long_texts = [f"{number} " + f"word{number} " * 20_000 for number in range(6)]
    unit = await run(engine, record(prompts([*ONE_OFFS, *long_texts])))
    sizes = [len(sent.value or b"") for sent in unit.sent_to(PROMPTS_CLUSTERED.name)]
    assert len(sizes) >= 2
    assert max(sizes) <= FRAME_BYTES_MAX < RECORD_BYTES_MAX
    assert len(assignments(steps(unit))) == 16


async def test_a_broken_frame_is_dead_lettered_and_the_others_go_on(engine: FakeEngine) -> None:
    broken = a_record(b"\xc3\x01broken", topic=PROMPTS_EMBEDDED.name, partition=PARTITION, offset=1)
    unit = await run(engine, broken, record(prompts(ONE_OFFS)))
    (letter,) = unit.dead_letters
    assert (letter.record, letter.stage) == (broken, agent.STAGE)
    assert isinstance(letter.error, UndecodableRecord)
    assert len(assignments(steps(unit))) == len(ONE_OFFS)


async def test_a_frame_of_an_unknown_schema_holds_the_partition(engine: FakeEngine) -> None:
    with pytest.raises(SchemaUnavailable):
        await run(engine, record(prompts(ONE_OFFS)), unknown_schema())
    assert not any(rows for table in engine.tables.values() for rows in table.rows.values())


async def test_a_vector_of_another_dimension_stops_the_worker_with_a_hint(engine: FakeEngine) -> None:
    await run(engine, record(prompts(["x"])))
    (moderated,) = frames.decode(EmbeddedFrame, record(prompts(["y"], start=1)).value or b"").prompts
    short = EmbeddedFrame(embedder=EMBEDDER, dimension=8, vectors=bytes(4 * 8), prompts=(moderated,))
    with pytest.raises(StateIncompatible, match="8 dimensions") as refused:
        await run(engine, replace(record(prompts(["y"], start=1)), value=frames.encode(short)))
    assert "rebuild" in str(refused.value.hint)


async def test_a_frame_of_another_embedder_is_refused_after_a_restore_too(engine: FakeEngine) -> None:
    await run(engine, record(prompts(ONE_OFFS)))
    engine.restore()
    with pytest.raises(StateIncompatible):
        await run(engine, record(prompts(["x"], start=50), embedder="another"))


async def test_prompts_of_a_frame_handled_one_by_one_lead_to_the_same_rows_and_steps(engine: FakeEngine) -> None:
    whole = record(prompts(busy_stream()[:60]))
    together = await run(engine, whole)
    other = an_engine()
    pieces = other.splits[agent.STAGE](whole)
    apart = [await run(other, piece.record) for piece in pieces]
    assert steps(*apart) == steps(together)
    assert table_rows(other) == table_rows(engine)
    refused = [orjson.loads(piece.letter.value or b"") for piece in pieces]
    assert [letter["text"] for letter in refused] == busy_stream()[:60]
    assert {piece.letter.topic for piece in pieces} == {PROMPTS.name}
