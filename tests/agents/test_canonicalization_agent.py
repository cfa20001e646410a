"""The agent of canonicalization on an engine without a broker: what a unit publishes, and that caches never lie."""

from __future__ import annotations

import json

import pytest

from schemas.avro import WriterSchema
from schemas.errors import SchemaUnavailable
from schemas.events import EvolutionEvent, TemplateVersion
from schemas.prompts import CanonicalizedFrame, ClusterChangeKind, ClusteredFrame, ClusteredStep
from schemas.topics import EVOLUTION_EVENTS, PROMPTS_CANONICALIZED, PROMPTS_CLUSTERED, TEMPLATES
from streams.engine import frames
from streams.prompts.canonicalization import agent
from streams.prompts.canonicalization.logic import Policy
from tests.canonical import change, letters, members, step
from tests.fakes import FakeEngine, FakeUnit, a_record


class NoSchemas:
    def known(self, reference: str) -> WriterSchema | None:  # noqa: ARG002  the port's signature
        return None

    async def find(self, reference: str) -> WriterSchema:
        raise SchemaUnavailable("looking for a schema", reference=reference)


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    agent.attach(engine, policy=Policy(), schemas=NoSchemas())
    return engine


def record(steps: list[ClusteredStep]) -> bytes:
    return frames.encode(ClusteredFrame(embedder="test", steps=tuple(steps)))


async def run(engine: FakeEngine, *batches: list[ClusteredStep], partition: int = 3) -> FakeUnit:
    records = [a_record(record(batch), topic=PROMPTS_CLUSTERED.name, partition=partition) for batch in batches]
    return await engine.run(agent.STAGE, records, partition=partition)


def canonicalized(unit: FakeUnit) -> list[CanonicalizedFrame]:
    return [frames.decode(CanonicalizedFrame, sent.value or b"") for sent in unit.sent_to(PROMPTS_CANONICALIZED.name)]


async def test_every_prompt_comes_out_once_in_order_on_the_same_partition(engine: FakeEngine) -> None:
    unit = await run(engine, members(letters(20)), members(letters(10), start=20))
    prompts = [prompt for frame in canonicalized(unit) for prompt in frame.prompts]
    assert [prompt.assignment.prompt.prompt_id for prompt in prompts] == [f"p{n}" for n in range(30)]
    assert {sent.partition for sent in unit.sent} == {3}
    assert unit.counted("prompts", outcome="clustered") == 30


async def test_an_event_is_published_with_its_headers_and_its_template_once_more(engine: FakeEngine) -> None:
    unit = await run(engine, members(letters(30)))
    (published,) = unit.sent_to(EVOLUTION_EVENTS.name)
    event = EvolutionEvent.model_validate_json(published.value or b"")
    headers = dict(published.headers)
    assert published.key == b"acme/c1"
    assert headers["ce_id"] == event.event_id.encode()
    assert headers["ce_subject"] == b"acme/c1"
    (newest,) = unit.sent_to(TEMPLATES.name)
    assert newest.key == b"acme/c1"
    assert TemplateVersion.model_validate_json(newest.value or b"") == event.template


async def test_cluster_changes_travel_with_the_prompts(engine: FakeEngine) -> None:
    founded = change(ClusterChangeKind.FOUNDED)
    unit = await run(engine, [founded, *members(letters(3))])
    (frame,) = canonicalized(unit)
    assert frame.changes == (founded.change,)


async def test_the_template_of_a_merged_cluster_is_withdrawn(engine: FakeEngine) -> None:
    two = members(letters(30, seed=2), start=100, cluster="c2")
    unit = await run(engine, [*members(letters(30)), *two, change(ClusterChangeKind.MERGED, "c1", "c2")])
    assert [sent.key for sent in unit.sent_to(TEMPLATES.name) if sent.value is None] == [b"acme/c2"]


async def test_a_broken_frame_is_dead_lettered_and_the_others_go_on(engine: FakeEngine) -> None:
    good = a_record(record(members(letters(2))), topic=PROMPTS_CLUSTERED.name)
    broken = a_record(b"\xc3\x01broken", topic=PROMPTS_CLUSTERED.name, offset=1)
    unit = await engine.run(agent.STAGE, [broken, good])
    assert [letter.record for letter in unit.dead_letters] == [broken]
    assert sum(len(frame.prompts) for frame in canonicalized(unit)) == 2


async def test_a_frame_of_an_unknown_schema_holds_the_partition(engine: FakeEngine) -> None:
    unknown = a_record(b"\xc3\x01" + bytes(8) + b"x", topic=PROMPTS_CLUSTERED.name)
    with pytest.raises(SchemaUnavailable):
        await engine.run(agent.STAGE, [unknown])


async def test_units_cut_anywhere_and_restores_between_them_change_nothing(engine: FakeEngine) -> None:
    steps = members(letters(45) + letters(20, seed=2, template="Send {city} a {tone} card on {topic}, please.\nBye."))
    whole = await run(engine, steps)
    other = FakeEngine()
    agent.attach(other, policy=Policy(), schemas=NoSchemas())
    units = []
    for start in range(0, len(steps), 7):
        units.append(await run(other, steps[start : start + 7]))
        other.restore()
    one, many = (
        [sent.value for unit in found for sent in unit.sent_to(EVOLUTION_EVENTS.name)] for found in ([whole], units)
    )
    assert one == many
    assert [json.loads(value or b"")["type"] for value in one] == ["CREATED", "UPDATED"]
    assert {name: table.rows for name, table in engine.tables.items()} == {
        name: table.rows for name, table in other.tables.items()
    }


async def test_a_unit_that_fails_leaves_nothing_behind(engine: FakeEngine) -> None:
    steps = members(letters(30))
    await run(engine, steps[:10])
    good = a_record(record(steps[10:]), topic=PROMPTS_CLUSTERED.name, partition=3)
    unknown = a_record(b"\xc3\x01" + bytes(8) + b"x", topic=PROMPTS_CLUSTERED.name, partition=3)
    with pytest.raises(SchemaUnavailable):
        await engine.run(agent.STAGE, [good, unknown], partition=3)
    again = await run(engine, steps[10:])
    other = FakeEngine()
    agent.attach(other, policy=Policy(), schemas=NoSchemas())
    await run(other, steps[:10])
    assert again.sent == (await run(other, steps[10:])).sent


async def test_a_tenant_whose_name_holds_a_slash_is_told_apart(engine: FakeEngine) -> None:
    for tenant in ("acme", "acme/c1", "a"):
        await run(engine, [step(text, n, tenant=tenant) for n, text in enumerate(letters(5))])
    engine.restore()
    unit = await run(engine, [step(text, 5 + n, tenant="acme/c1") for n, text in enumerate(letters(25, seed=3))])
    (event,) = unit.sent_to(EVOLUTION_EVENTS.name)
    assert json.loads(event.value or b"")["template"]["members"] < 25


async def test_steps_of_a_frame_handled_one_by_one_lead_to_the_same_rows_and_outcomes(engine: FakeEngine) -> None:
    moved = step("A text that moved.", 3, sequence=1, left="c2")
    batch = [change(ClusterChangeKind.FOUNDED), *members(letters(30)), moved]
    together = await run(engine, batch)
    other = FakeEngine()
    agent.attach(other, policy=Policy(), schemas=NoSchemas())
    pieces = other.splits[agent.STAGE](a_record(record(batch), topic=PROMPTS_CLUSTERED.name, partition=3))
    apart = [await other.run(agent.STAGE, [piece.record], partition=3) for piece in pieces]

    def outcomes(*units: FakeUnit) -> list[object]:
        return [item for unit in units for frame in canonicalized(unit) for item in frame.prompts]

    assert outcomes(*apart) == outcomes(together)
    assert {name: table.rows for name, table in other.tables.items()} == {
        name: table.rows for name, table in engine.tables.items()
    }
    # What was placed already goes back to this stage only; a change, or a move of what has its answer, is no prompt.
    assert all(piece.letter == piece.record for piece in pieces)
    assert [bool(piece.counts) for piece in pieces] == [False, *[True] * 30, False]


async def test_statistics_of_slots_travel_with_the_prompts(engine: FakeEngine) -> None:
    unit = await run(engine, members(letters(100)))
    told = [statistics for frame in canonicalized(unit) for statistics in frame.statistics]
    assert [statistics.version for statistics in told] == ["1.0.0", "1.0.0"], "as members doubled, twice"
    (published,) = unit.sent_to(EVOLUTION_EVENTS.name)
    assert {statistics.template_id for statistics in told} == {json.loads(published.value or b"")["template_id"]}
    slots = json.loads(told[-1].slots_json)
    assert [slot["name"] for slot in slots] == ["letter_kind", "letter_to", "topic"]
    assert slots[0]["detail"] == {"values": ["dry", "formal", "friendly"]}
