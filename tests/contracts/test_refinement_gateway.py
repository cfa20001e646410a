"""The refinement room and the gateway's adapter together, against a gateway on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.portkey.chat import PortkeyChat
from schemas.errors import ServiceRateLimited, ServiceRefused, ServiceUnavailable
from schemas.refinements import Refinement
from streams.engine.refusals import PROBE
from streams.prompts.refinement import agent, logic
from streams.prompts.worker import language_model_of
from streams.settings import load
from tests.fakes import FakeEngine, FakeUnit
from tests.sink_records import A, B, a_version, an_event, event_record
from tests.stub_gateway import SILENCE, StubGateway, completion

KEY = "the-key-nobody-may-see"
EXAMPLES = ("1", "2")  # of the slot of `a_version`


@pytest.fixture
def gateway() -> Iterator[StubGateway]:
    with StubGateway() as stub:
        yield stub


def named(request: Any) -> str:
    """Return what a well-behaved model answers to a request."""
    about = json.loads(request["messages"][1]["content"])
    slots = {name: {"name": "source_text", "reason": "it is translated"} for name in about["slots"]}
    return json.dumps({"name": "French translation", "description": "Translates.", "slots": slots})


async def refine(
    gateway: StubGateway, *clusters: str, examples_allowed: bool = False, timeout_s: float = 5
) -> FakeUnit:
    engine = FakeEngine()
    model = PortkeyChat(model="gpt", tokens_max=900, api_key=KEY, base_url=gateway.url, timeout_s=timeout_s)
    agent.attach(engine, model=model, examples_allowed=examples_allowed)
    versions = [
        a_version(cluster, template=f"Translate {{{{what}}}} into {'Dutch' if cluster == B else 'French'}.")
        for cluster in clusters or (A,)
    ]
    events = [event_record(offset, an_event(version)) for offset, version in enumerate(versions)]
    return await engine.run("refinement", events)


async def test_a_template_is_named_by_one_bounded_request(gateway: StubGateway) -> None:
    gateway.answer = lambda request: (200, completion(request, named(request)))
    unit = await refine(gateway)
    (sent,) = unit.sent
    refinement = Refinement.model_validate_json(sent.value or b"")
    assert (refinement.name, refinement.slots["what"].name, refinement.model) == (
        "French translation",
        "source_text",
        "gpt",
    )
    (request,) = gateway.requests
    system, user = request.body["messages"]
    assert system == {"role": "system", "content": logic.INSTRUCTIONS}
    assert json.loads(user["content"])["template"] == "Translate {{what}} into French."
    assert (request.body["model"], request.body["max_tokens"]) == ("gpt", 900)


@pytest.mark.parametrize("allowed", [False, True])
async def test_example_values_leave_the_machine_only_where_that_is_allowed(gateway: StubGateway, allowed: bool) -> None:
    gateway.answer = lambda request: (200, completion(request, named(request)))
    await refine(gateway, examples_allowed=allowed)
    (slot,) = json.loads(gateway.requests[0].body["messages"][1]["content"])["slots"].values()
    assert slot.get("examples") == (list(EXAMPLES) if allowed else None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((429, {}, {"retry-after": "3"}), ServiceRateLimited),
        ((500, {}), ServiceUnavailable),
        ((503, "busy"), ServiceUnavailable),
        ((SILENCE, None), ServiceUnavailable),
        ((401, {}), ServiceRefused),
    ],
)
async def test_a_gateway_that_fails_holds_the_partition(
    gateway: StubGateway, answer: Any, error: type[Exception]
) -> None:
    gateway.answer = lambda _: answer
    with pytest.raises(error) as raised:
        await refine(gateway, timeout_s=0.3)
    assert KEY not in str(raised.value)
    assert "Translate" not in str(raised.value)


@pytest.mark.parametrize("body", ["", "<html>", "null", {"choices": []}, {"choices": [{"message": {"content": "?"}}]}])
async def test_answers_that_are_no_answers_leave_the_offline_names(gateway: StubGateway, body: Any) -> None:
    gateway.reply(200, body)
    unit = await refine(gateway)
    assert (unit.sent, unit.dead_letters) == ([], [])
    assert unit.counted("refinements", outcome="unusable") == 1
    assert len(gateway.requests) == agent.ATTEMPTS_MAX


async def test_a_firewall_that_minds_one_template_does_not_hold_the_others(gateway: StubGateway) -> None:
    def firewall(request: Any) -> tuple[int, Any]:
        asked = request["messages"][1]["content"]
        if asked == PROBE:
            return 200, completion(request, "{}")
        return (403, {}) if "French" in asked else (200, completion(request, named(request)))

    gateway.answer = firewall
    unit = await refine(gateway, A, B)
    assert unit.counted("refinements", outcome="declined") == 1
    assert len(unit.sent) == 1


def test_without_a_model_in_the_settings_there_is_none() -> None:
    assert language_model_of(load()) is None
    model = language_model_of(load(refinement={"model": "gpt"}, portkey={"api_key": KEY}))
    assert model is not None
    assert model.name == "gpt"


def test_no_log_line_holds_the_key_or_the_template_even_at_the_lowest_level(gateway: StubGateway) -> None:
    """In a process of its own, because logs are configured once a process."""
    gateway.reply(429, {"error": {"message": "slow down"}})
    program = f"""
import asyncio
from streams.engine.logs import configure
from connectors.portkey.chat import PortkeyChat
configure("DEBUG", "json")
import logging
try:
    model = PortkeyChat(model="gpt", api_key="{KEY}", base_url="{gateway.url}")
    asyncio.run(model.complete("Answer in JSON.", "Translate this."))
except Exception as error:
    logging.getLogger("test").warning("failed", exc_info=error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "the gateway answered 429" in ran.stderr
    for secret in (KEY, "Translate this", "Answer in JSON"):
        assert secret not in ran.stdout + ran.stderr
