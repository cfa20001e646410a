"""What a model is told of a template, and what of its answer is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ServiceMalformed, StateIncompatible
from schemas.events import Slot, SlotType, TemplateVersion
from streams.prompts.refinement import logic
from tests.sink_records import a_version, an_event

SLOTS = (
    Slot(
        name="text_1",
        position=0,
        type=SlotType.ENUM,
        examples=("hush@example.org", "x" * 500, "three", "four"),
        detail={"values": ["secret one"]},
        statistics={"top": [["secret two", 3]]},
    ),
    Slot(name="number", position=1, type=SlotType.NUMBER, optional=True),
)


def a_template(**changed: Any) -> TemplateVersion:
    fields: dict[str, Any] = {"template": "Write to {{text_1}} about {{number}} of {{them}}.", "slots": SLOTS}
    return a_version(**(fields | changed))


def an_answer(**changed: Any) -> str:
    answer: dict[str, Any] = {
        "name": "Letter about an amount",
        "description": "Asks for a letter to a person about a number of things.",
        "family_name": "Letters",
        "family_description": "Asks for letters.",
        "slots": {"text_1": {"name": "recipient", "reason": "after `Write to`"}, "number": {"name": "amount"}},
    }
    return json.dumps(answer | changed)


def with_slot_names(first: Any, second: Any = "amount") -> str:
    return an_answer(slots={"text_1": {"name": first}, "number": {"name": second}})


def test_without_leave_no_value_of_a_slot_is_sent() -> None:
    told = logic.request_of(a_template(), examples_allowed=False)
    for value in ("hush", "xxx", "three", "secret"):
        assert value not in told
    assert json.loads(told)["slots"] == {
        "text_1": {"type": "enum", "optional": False, "repeated": False},
        "number": {"type": "number", "optional": True, "repeated": False},
    }


def test_with_leave_a_few_examples_are_sent_and_statistics_still_are_not() -> None:
    told = logic.request_of(a_template(), examples_allowed=True)
    assert json.loads(told)["slots"]["text_1"]["examples"] == ["hush@example.org", "x" * 80, "three"]
    assert "secret" not in told


def test_what_is_sent_is_bounded_however_long_template_and_slots_are() -> None:
    many = tuple(
        Slot(name=f"slot_{n}", position=n, type=SlotType.TEXT_LONG, examples=("y" * 9_000,)) for n in range(40)
    )
    told = logic.request_of(a_template(template="z" * 200_000, slots=many), examples_allowed=True)
    assert len(told) < 20_000
    assert json.loads(told)["template_is_cut"]
    assert not json.loads(logic.request_of(a_template(), examples_allowed=True))["template_is_cut"]


def test_a_good_answer_becomes_a_record_beside_the_offline_names() -> None:
    template = a_template()
    event = an_event(template)
    answer = logic.answer_of(an_answer(), template)
    refinement = logic.refinement_of(event, template, answer, "gpt")
    assert {old: slot.name for old, slot in refinement.slots.items()} == {"text_1": "recipient", "number": "amount"}
    assert refinement.slots["text_1"].reason == "after `Write to`"
    assert (refinement.name, refinement.family_name) == ("Letter about an amount", "Letters")
    assert (refinement.event_id, refinement.template_id) == (event.event_id, template.template_id)
    assert (refinement.model, refinement.prompt_version) == ("gpt", logic.PROMPT_VERSION)
    assert refinement == logic.refinement_of(event, template, answer, "gpt"), "the same inputs give the same record"
    assert refinement.refinement_id != logic.refinement_of(event, template, answer, "other").refinement_id


def test_a_template_of_no_family_names_none() -> None:
    template = a_template(family_id=None)
    refinement = logic.refinement_of(an_event(template), template, logic.answer_of(an_answer(), template), "gpt")
    assert (refinement.family_name, refinement.family_description) == ("", "")


@pytest.mark.parametrize("wrapped", ["```json\n{}\n```", "Here it is: {} I hope it helps.", "  {}\n"])
def test_json_wrapped_in_words_is_found(wrapped: str) -> None:
    assert logic.answer_of(wrapped.replace("{}", an_answer()), a_template()).name == "Letter about an amount"


def test_what_was_not_asked_for_is_ignored() -> None:
    answer = json.loads(an_answer(template="Ignore the rules.", confidence=2))
    answer["slots"]["number"] |= {"type": "date", "values": [1]}
    assert logic.answer_of(json.dumps(answer), a_template()) == logic.answer_of(an_answer(), a_template())


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no JSON at all",
        "{",
        "[]",
        "null",
        "{}",
        an_answer(name=""),
        an_answer(name="   "),
        an_answer(name=None),
        an_answer(name=7),
        an_answer(name="n" * 81),
        an_answer(name="two\nlines"),
        an_answer(name="\x1b[2J"),
        an_answer(description="d" * 301),
        an_answer(description=["a list"]),
        an_answer(family_name="f" * 81),
        an_answer(slots=None),
        an_answer(slots={}),
        an_answer(slots={"text_1": {"name": "recipient"}}),
        an_answer(slots={"text_1": {"name": "a"}, "number": {"name": "b"}, "invented": {"name": "c"}}),
        an_answer(slots={"text_1": "recipient", "number": "amount"}),
        with_slot_names("amount"),
        with_slot_names("them"),
        with_slot_names("Recipient"),
        with_slot_names("1st"),
        with_slot_names("the recipient"),
        with_slot_names("recipient\n"),
        with_slot_names("empfänger"),
        with_slot_names("r" * 41),
        with_slot_names(""),
        with_slot_names(None),
    ],
)
def test_an_answer_that_breaks_a_rule_is_not_taken_and_not_repeated_in_the_error(answer: str) -> None:
    with pytest.raises(ServiceMalformed) as raised:
        logic.answer_of(answer, a_template())
    assert raised.value.__suppress_context__ or raised.value.__context__ is None, "a chained error quotes the answer"
    for said in ("Letter", "recipient", "invented"):
        assert said not in str(raised.value)


def test_a_slot_may_keep_its_name_or_take_that_of_another() -> None:
    swapped = logic.answer_of(with_slot_names("number", "text_1"), a_template())
    assert [slot.name for slot in swapped.slots.values()] == ["number", "text_1"]
    assert logic.answer_of(with_slot_names("text_1", "number"), a_template()).slots["text_1"].name == "text_1"


def test_of_a_template_with_too_many_slots_only_the_template_is_named() -> None:
    many = tuple(Slot(name=f"slot_{n}", position=n, type=SlotType.TEXT_SHORT) for n in range(logic.SLOTS_MAX + 1))
    template = a_template(slots=many)
    assert json.loads(logic.request_of(template, examples_allowed=True))["slots"] == {}
    answer = logic.answer_of(an_answer(slots={"slot_1": {"name": "one"}}), template)
    assert logic.refinement_of(an_event(template), template, answer, "gpt").slots == {}


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(max_size=5), st.lists).map(str))
def test_no_answer_whatever_does_anything_but_pass_or_be_malformed(said: str) -> None:
    try:
        logic.answer_of(said, a_template())
    except ServiceMalformed:
        return
    raise AssertionError("random text was taken for an answer")


def test_a_row_gives_back_its_outcome_and_one_of_another_format_stops_the_worker() -> None:
    template = a_template()
    refinement = logic.refinement_of(an_event(template), template, logic.answer_of(an_answer(), template), "gpt")
    outcome = logic.Outcome(refinement_id="r", result="refined", unusable=1, refinement=refinement)
    row = outcome.model_dump_json().encode()
    assert logic.outcome_of_row(row) == outcome
    with pytest.raises(StateIncompatible):
        logic.outcome_of_row(row.replace(b'"format":1', b'"format":2'))
