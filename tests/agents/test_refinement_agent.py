"""The refinement room without a broker: one question a template version, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from schemas.errors import ServiceMalformed, ServiceRateLimited, ServiceRefused, ServiceUnavailable
from schemas.events import EvolutionEvent, EvolutionType, Slot, SlotType
from schemas.ids import template_id
from schemas.refinements import Refinement
from streams.engine.ports import Record
from streams.engine.refusals import PROBE
from streams.prompts.refinement import agent
from tests.fakes import FakeEngine, FakeUnit, a_record
from tests.sink_records import FAMILY, A, B, C, a_version, an_event, event_record

Answers = Callable[[str], str]
EXAMPLE = "jane@example.org"


def good(text: str) -> str:
    """Return an answer that keeps every rule, to any question."""
    about = json.loads(text) if text != PROBE else {"slots": {}}
    slots = {name: {"name": f"better_{name}", "reason": "it fits"} for name in about["slots"]}
    return json.dumps({"name": "A better name", "description": "It does.", "family_name": "Family", "slots": slots})


class Model:
    """A language model that answers as the test says, and keeps what it was asked."""

    def __init__(self, answers: Answers = good, name: str = "gpt") -> None:
        self.name = name
        self.answers = answers
        self.asked: list[str] = []

    async def complete(self, instructions: str, text: str) -> str:
        assert "JSON" in instructions
        self.asked.append(text)
        await asyncio.sleep(0)
        return self.answers(text)


def an_engine(model: Model, *, examples_allowed: bool = False, tables: FakeEngine | None = None) -> FakeEngine:
    engine = FakeEngine()
    agent.attach(engine, model=model, examples_allowed=examples_allowed)
    if tables is not None:
        engine.tables["refined"].rows = tables.tables["refined"].rows
    return engine


def a_change(cluster: str = A, version: str = "1.0.0", **changed: Any) -> EvolutionEvent:
    slots = (Slot(name="what", position=0, type=SlotType.EMAIL, examples=(EXAMPLE,)),)
    return an_event(
        a_version(cluster, version, slots=slots), previous=None if version == "1.0.0" else "1.0.0", **changed
    )


def records(*events: EvolutionEvent) -> list[Record]:
    return [event_record(offset, event, partition=5) for offset, event in enumerate(events)]


async def run(engine: FakeEngine, events: Sequence[EvolutionEvent]) -> FakeUnit:
    return await engine.run("refinement", records(*events), partition=5)


def published(unit: FakeUnit) -> list[Refinement]:
    return [Refinement.model_validate_json(sent.value or b"") for sent in unit.sent_to("refinements")]


async def test_a_template_version_is_asked_about_once_and_its_refinement_published_under_its_cluster() -> None:
    model = Model()
    unit = await run(an_engine(model), [a_change()])
    (sent,) = unit.sent
    assert (sent.topic, sent.partition, sent.key) == ("refinements", 5, f"acme/{A}".encode())
    (refinement,) = published(unit)
    assert (refinement.name, refinement.slots["what"].name) == ("A better name", "better_what")
    assert (refinement.template_id, refinement.version) == (template_id(A, "1.0.0"), "1.0.0")
    assert (refinement.family_id, refinement.family_name) == (FAMILY, "Family")
    headers = dict(sent.headers)
    assert headers["ce_id"].decode() == refinement.refinement_id
    assert headers["ce_type"] == b"promptloom.template.refined.v1"
    assert len(model.asked) == 1
    assert unit.counted("refinements", outcome="refined") == 1


@pytest.mark.parametrize("kind", list(EvolutionType))
async def test_only_events_that_made_a_version_are_asked_about(kind: EvolutionType) -> None:
    model = Model()
    unit = await run(an_engine(model), [a_change(type=kind), a_change(B, type=kind, template=None)])
    expected = int(kind.value in {"CREATED", "UPDATED", "SLOT_ADDED", "SLOT_REMOVED"})
    assert (len(model.asked), len(published(unit))) == (expected, expected)


async def test_a_replay_publishes_the_same_records_and_asks_nobody() -> None:
    model = Model()
    engine = an_engine(model)
    events = [a_change(), a_change(B), a_change(A, "1.1.0")]
    first = await run(engine, events)
    model.answers = lambda _: "something else altogether"
    again = await run(engine, events)
    restarted = await run(an_engine(model, tables=engine), events)
    assert first.sent == again.sent == restarted.sent
    assert len(model.asked) == 3
    assert again.counted("refinements", outcome="repeated") == 3


async def test_however_records_are_cut_the_same_is_published() -> None:
    events = [a_change(), a_change(B), a_change(), a_change(C), a_change(A, "1.1.0")]
    whole = await run(an_engine(Model()), events)
    engine = an_engine(model := Model())
    cut = [await run(engine, [event]) for event in events]
    assert whole.sent == [sent for unit in cut for sent in unit.sent]
    assert len(model.asked) == 4


async def test_another_model_is_asked_anew() -> None:
    engine = an_engine(Model())
    await run(engine, [a_change()])
    other = Model(name="other")
    unit = await run(an_engine(other, tables=engine), [a_change()])
    assert [refinement.model for refinement in published(unit)] == ["other"]
    assert len(other.asked) == 1


async def test_an_answer_that_breaks_the_rules_is_asked_for_once_more() -> None:
    model = Model()
    model.answers = lambda text: good(text) if len(model.asked) > 1 else '{"name": 7}'
    unit = await run(an_engine(model), [a_change()])
    assert len(published(unit)) == 1
    assert unit.counted("refinement_answers_unusable") == 1


@pytest.mark.parametrize("broken", ["", "{", '{"name": "N", "description": "D", "slots": {}}'])
async def test_after_two_broken_answers_the_offline_names_stand_for_good(broken: str) -> None:
    model = Model(lambda _: broken)
    engine = an_engine(model)
    unit = await run(engine, [a_change(), a_change(B)])
    assert not unit.sent
    assert not unit.dead_letters
    assert len(model.asked) == 4
    assert unit.counted("refinements", outcome="unusable") == 2
    assert unit.counted("refinement_answers_unusable") == 4
    assert not (await run(engine, [a_change(), a_change(B)])).sent
    assert len(model.asked) == 4, "what was given up is not asked about again"


async def test_an_answer_that_cannot_be_read_at_all_counts_as_a_broken_one() -> None:
    def unreadable(_: str) -> str:
        raise ServiceMalformed("reading a completion: it holds no text")

    unit = await run(an_engine(model := Model(unreadable)), [a_change()])
    assert not unit.sent
    assert len(model.asked) == 2


@pytest.mark.parametrize("failure", [ServiceUnavailable("no answer"), ServiceRateLimited("slow down", retry_after_s=1)])
async def test_a_gateway_that_fails_holds_the_unit_and_no_answer_is_asked_for_twice(failure: Exception) -> None:
    down = True

    def answers(text: str) -> str:
        if down and '"name":"two"' in text:
            raise failure
        return good(text)

    model = Model(answers)
    engine = an_engine(model)
    two = a_version(B, name="two", slots=())
    events = [a_change(), an_event(two), a_change(C)]
    with pytest.raises(type(failure)):
        await run(engine, events)
    assert not engine.tables["refined"].rows[5]
    down = False
    unit = await run(engine, events)
    assert [refinement.cluster_id for refinement in published(unit)] == [A, B, C]
    assert len(model.asked) == 4, "the two that were answered are not asked about again"


async def test_a_text_the_gateway_declines_keeps_its_names_and_holds_nothing() -> None:
    def firewall(text: str) -> str:
        if "forbidden" in text:
            raise ServiceRefused("asking the gateway: 403")
        return good(text)

    forbidden = a_version(B, template="forbidden {{what}}")
    engine = an_engine(model := Model(firewall))
    unit = await run(engine, [a_change(), an_event(forbidden), a_change(C)])
    assert [refinement.cluster_id for refinement in published(unit)] == [A, C]
    assert unit.counted("refinements", outcome="declined") == 1
    assert model.asked.count(PROBE) == 1
    assert not unit.dead_letters


async def test_a_gateway_that_refuses_everything_holds_the_unit() -> None:
    def wrong_key(_: str) -> str:
        raise ServiceRefused("asking the gateway: 401")

    with pytest.raises(ServiceRefused):
        await run(an_engine(Model(wrong_key)), [a_change()])


async def test_a_record_that_is_no_event_is_dead_lettered_alone() -> None:
    engine = an_engine(Model())
    broken = a_record(b'{"event_id": "secret"}', topic="evolution-events", partition=5)
    unit = await engine.run("refinement", [broken, *records(a_change())], partition=5)
    (letter,) = unit.dead_letters
    assert letter.record is broken
    assert "secret" not in str(letter.error)
    assert len(published(unit)) == 1


async def test_values_of_slots_are_sent_only_where_that_is_allowed() -> None:
    for allowed in (False, True):
        model = Model()
        await run(an_engine(model, examples_allowed=allowed), [a_change()])
        assert (EXAMPLE in model.asked[0]) is allowed


async def test_logs_tell_of_a_broken_answer_without_its_words_or_the_templates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await run(an_engine(Model(lambda _: '{"name": "private words"}')), [a_change()])
    assert "keeps its offline names" in caplog.text
    logged = " ".join(str(vars(record)) for record in caplog.records)
    for secret in ("private words", "Translate", EXAMPLE):
        assert secret not in logged


async def test_a_unit_without_events_does_nothing() -> None:
    unit = await run(an_engine(Model()), [])
    assert (unit.sent, unit.counts) == ([], {})
