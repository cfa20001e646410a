"""A refused batch: one text is declined alone, a service that declines everybody is at fault."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ServiceRefused, ServiceUnavailable
from streams.engine.refusals import PROBE, answers_or_refusals


class Service:
    """Answers with lengths; declines a batch that holds any of the texts it does not like."""

    def __init__(self, disliked: Sequence[str] = ()) -> None:
        self.disliked = set(disliked)
        self.asked: list[list[str]] = []

    async def ask(self, texts: Sequence[str]) -> list[int]:
        self.asked.append(list(texts))
        if self.disliked & set(texts):
            raise ServiceRefused("declined")
        return [len(text) for text in texts]


async def test_a_batch_that_is_answered_is_asked_for_once() -> None:
    service = Service()
    assert await answers_or_refusals(service.ask, ["a", "bb"]) == [1, 2]
    assert service.asked == [["a", "bb"]]


async def test_nothing_is_asked_about_nothing() -> None:
    service = Service()
    assert await answers_or_refusals(service.ask, []) == []
    assert service.asked == []


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.sets(st.sampled_from("abcdefgh")))
async def test_each_text_has_its_answer_or_its_own_refusal(texts: list[str], disliked: set[str]) -> None:
    answers = await answers_or_refusals(Service(tuple(disliked)).ask, texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        assert isinstance(answer, ServiceRefused) == (text in disliked)


async def test_one_declined_text_costs_few_requests() -> None:
    service = Service(["bad"])
    answers = await answers_or_refusals(service.ask, ["good"] * 100 + ["bad"] + ["good"] * 155)
    assert [isinstance(answer, ServiceRefused) for answer in answers].index(True) == 100
    assert len(service.asked) < 20


async def test_a_service_that_declines_everybody_is_asked_twice_and_its_refusal_raised() -> None:
    service = Service(["bad", PROBE])
    with pytest.raises(ServiceRefused):
        await answers_or_refusals(service.ask, ["bad"] * 256)
    assert len(service.asked) == 2


@pytest.mark.parametrize("answered", range(1, 9))
async def test_a_service_that_begins_to_decline_everybody_while_a_batch_is_halved_is_at_fault(answered: int) -> None:
    service = Service(["bad"])

    async def ask(texts: Sequence[str]) -> list[int]:
        if len(service.asked) >= answered:
            service.disliked.update([PROBE, *texts])
        return await service.ask(texts)

    with pytest.raises(ServiceRefused):
        await answers_or_refusals(ask, ["good"] * 7 + ["bad"] + ["fine"] * 8)


@pytest.mark.parametrize("begins", range(14))
@pytest.mark.parametrize("lasts", range(1, 12))
async def test_no_good_text_is_refused_for_a_spell_of_declining_everybody(begins: int, lasts: int) -> None:
    service, asked = Service(["bad"]), 0

    async def ask(texts: Sequence[str]) -> list[int]:
        nonlocal asked
        asked += 1
        if begins < asked <= begins + lasts:
            raise ServiceRefused("declined")
        return await service.ask(texts)

    texts = ["good", "bad", "fine", "nice"]
    try:
        answers = await answers_or_refusals(ask, texts)
    except ServiceRefused:
        return  # held, and tried again
    refused = [text for text, answer in zip(texts, answers, strict=True) if isinstance(answer, ServiceRefused)]
    assert refused in ([], ["bad"])


async def test_another_failure_passes_through() -> None:
    async def unavailable(texts: Sequence[str]) -> list[int]:
        raise ServiceUnavailable(f"no answer for {len(texts)}")

    with pytest.raises(ServiceUnavailable):
        await answers_or_refusals(unavailable, ["a"])
