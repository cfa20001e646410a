"""The Portkey adapters against a gateway on this machine: what each failure becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.embedders import EMBEDDERS
from connectors.moderators import MODERATORS
from connectors.moderators.portkey import CATEGORIES
from connectors.portkey.chat import PortkeyChat
from connectors.portkey.client import CONCURRENCY_MAX
from schemas.errors import (
    ServiceError,
    ServiceMalformed,
    ServiceRateLimited,
    ServiceRefused,
    ServiceUnavailable,
    SettingsInvalid,
)
from streams.prompts.ports import Embedder, LanguageModel, Moderator
from tests.stub_gateway import SILENCE, StubGateway, completion, embeddings, moderations

DIMENSION = 4
SECRET_TEXT = "a prompt nobody may read in a log"


@pytest.fixture
def gateway() -> Iterator[StubGateway]:
    with StubGateway() as stub:
        yield stub


def an_embedder(gateway: StubGateway, **arguments: Any) -> Embedder:
    defaults = {"model": "m", "dimension": DIMENSION, "api_key": "key", "base_url": gateway.url}
    return EMBEDDERS["portkey"](**(defaults | arguments))


def a_moderator(gateway: StubGateway, **arguments: Any) -> Moderator:
    return MODERATORS["portkey"](**({"model": "m", "api_key": "key", "base_url": gateway.url} | arguments))


def a_language_model(gateway: StubGateway, **arguments: Any) -> LanguageModel:
    return PortkeyChat(**({"model": "m", "api_key": "key", "base_url": gateway.url} | arguments))


async def ask(kind: str, gateway: StubGateway, **arguments: Any) -> None:
    if kind == "embedder":
        await an_embedder(gateway, **arguments).embed([SECRET_TEXT])
    elif kind == "moderator":
        await a_moderator(gateway, **arguments).score([SECRET_TEXT])
    else:
        await a_language_model(gateway, **arguments).complete("Answer in JSON.", SECRET_TEXT)


EACH = pytest.mark.parametrize("kind", ["embedder", "moderator", "language model"])


@EACH
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ServiceRefused),
        (401, ServiceRefused),
        (403, ServiceRefused),
        (404, ServiceRefused),
        (408, ServiceUnavailable),
        (413, ServiceRefused),
        (429, ServiceRateLimited),
        (500, ServiceUnavailable),
        (502, ServiceUnavailable),
        (503, ServiceUnavailable),
    ],
)
async def test_each_status_has_its_error_after_one_request(
    gateway: StubGateway, kind: str, status: int, error: type[ServiceError]
) -> None:
    gateway.answer = lambda request: (status, {"error": {"message": f"about {request}"}})
    with pytest.raises(error, match=f"the gateway answered {status}") as raised:
        await ask(kind, gateway)
    assert type(raised.value) is error
    assert len(gateway.requests) == 1
    assert SECRET_TEXT not in f"{raised.value} {raised.value.hint}"
    assert raised.value.__suppress_context__, "the chained error would quote the gateway's answer"


@EACH
@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
async def test_a_rate_limit_says_how_long_to_wait(
    gateway: StubGateway, kind: str, header: str, seconds: float | None
) -> None:
    gateway.reply(429, {}, {"retry-after": header})
    with pytest.raises(ServiceRateLimited) as raised:
        await ask(kind, gateway)
    assert raised.value.retry_after_s == seconds


@EACH
async def test_a_gateway_that_does_not_answer_in_time_is_unavailable(gateway: StubGateway, kind: str) -> None:
    gateway.reply(SILENCE, None)
    with pytest.raises(ServiceUnavailable, match=r"no answer within 0\.2 s"):
        await ask(kind, gateway, timeout_s=0.2)


@pytest.mark.parametrize("kind", ["embedder", "moderator"])
async def test_calls_that_are_given_up_leave_the_way_free_for_the_next(gateway: StubGateway, kind: str) -> None:
    """A cancelled request may keep its connection in the pool of httpcore for ever (its issue 1093)."""
    service = {"embedder": an_embedder, "moderator": a_moderator}[kind](gateway, timeout_s=5.0)
    gateway.answer = lambda request: (
        (200, moderations(request, CATEGORIES)) if kind == "moderator" else (200, embeddings(request, DIMENSION))
    )

    async def call() -> None:
        await (service.embed([SECRET_TEXT]) if kind == "embedder" else service.score([SECRET_TEXT]))  # type: ignore[attr-defined]

    for turns in range(40):  # of the loop, after which they are given up: wherever they are by then
        calls = [asyncio.create_task(call()) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await call()


async def test_calls_that_are_given_up_before_their_turn_are_never_made(gateway: StubGateway) -> None:
    """The first error of many calls gives up the others; the next attempt must not stand behind them."""
    service = a_moderator(gateway, timeout_s=0.2)
    gateway.reply(SILENCE, None)
    with pytest.raises(ServiceUnavailable):
        await service.score([SECRET_TEXT] * 32 * 40)
    gateway.answer = lambda request: (200, moderations(request, CATEGORIES))
    await service.score([SECRET_TEXT])
    assert len(gateway.requests) <= 2 * CONCURRENCY_MAX + 1


@EACH
async def test_a_gateway_that_is_not_there_is_unavailable(kind: str) -> None:
    with StubGateway() as gone:
        pass
    with pytest.raises(ServiceUnavailable, match="no connection"):
        await ask(kind, gone)


@EACH
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{",
        "<html>busy</html>",
        "null",
        "[]",
        '"text"',
        "{}",
        '{"data": 1, "results": 1}',
        '{"data": [], "results": []}',
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_malformed(
    gateway: StubGateway, kind: str, answer: str
) -> None:
    gateway.reply(200, answer)
    with pytest.raises(ServiceMalformed) as raised:
        await ask(kind, gateway)
    assert raised.value.__cause__ is None


@EACH
async def test_key_and_virtual_key_travel_as_portkey_headers(gateway: StubGateway, kind: str) -> None:
    gateway.reply(500, {})
    with pytest.raises(ServiceUnavailable) as raised:
        await ask(kind, gateway, api_key="the-key", virtual_key="the-virtual-key")
    headers = gateway.requests[0].headers
    assert headers["x-portkey-api-key"] == "the-key"
    assert headers["x-portkey-virtual-key"] == "the-virtual-key"
    assert "the-key" not in str(raised.value)


@pytest.mark.parametrize(
    "vector",
    [[1.0] * (DIMENSION - 1), [1.0] * (DIMENSION + 1), [], None, "AAAA", [float("nan")] * DIMENSION, ["x"] * DIMENSION],
)
async def test_a_vector_of_the_wrong_shape_is_malformed(gateway: StubGateway, vector: Any) -> None:
    gateway.reply(200, {"data": [{"index": 0, "embedding": vector}]})
    with pytest.raises(ServiceMalformed):
        await an_embedder(gateway).embed(["text"])


@pytest.mark.parametrize("indexes", [[0], [0, 0], [0, 2], [1, 2], [None, None], [0, 1, 2]])
async def test_vectors_that_do_not_fit_the_texts_are_malformed(gateway: StubGateway, indexes: list[int]) -> None:
    data = [{"index": index, "embedding": [1.0] * DIMENSION} for index in indexes]
    gateway.reply(200, {"data": data})
    with pytest.raises(ServiceMalformed, match="2 texts"):
        await an_embedder(gateway).embed(["one", "two"])


async def test_vectors_in_another_order_find_their_texts(gateway: StubGateway) -> None:
    def backwards(request: Any) -> tuple[int, Any]:
        answer = embeddings(request, DIMENSION)
        return 200, answer | {"data": answer["data"][::-1]}

    gateway.answer = backwards
    reordered = await an_embedder(gateway).embed(["a", "bb", "ccc"])
    gateway.answer = lambda request: (200, embeddings(request, DIMENSION))
    assert reordered.tobytes() == (await an_embedder(gateway).embed(["a", "bb", "ccc"])).tobytes()


async def test_a_vector_of_zeros_gets_a_direction(gateway: StubGateway) -> None:
    gateway.reply(200, {"data": [{"index": 0, "embedding": [0] * DIMENSION}]})
    assert (await an_embedder(gateway).embed(["text"])).tolist() == [[0.5] * DIMENSION]


async def test_requests_are_bounded_in_inputs_and_characters_and_number_at_once(gateway: StubGateway) -> None:
    gateway.answer = lambda request: (200, embeddings(request, DIMENSION))
    texts = [f"{number} " * 2_000 for number in range(120)] + ["short"] * 600
    await an_embedder(gateway, concurrency_max=2).embed(texts)
    assert sum(len(request.body["input"]) for request in gateway.requests) > len(texts)
    for request in gateway.requests:
        assert len(request.body["input"]) <= 256
        assert sum(map(len, request.body["input"])) <= 75_000
    assert gateway.at_once_max <= 2


async def test_a_failing_request_fails_the_whole_call_with_its_own_error(gateway: StubGateway) -> None:
    def second_fails(request: Any) -> tuple[int, Any]:
        if "bad" in request["input"]:
            return 403, {}
        return 200, embeddings(request, DIMENSION)

    gateway.answer = second_fails
    with pytest.raises(ServiceRefused):
        await an_embedder(gateway).embed(["good"] * 300 + ["bad"])


@pytest.mark.parametrize("score", [None, "high", -0.1, 1.1, float("nan"), True])
async def test_a_score_that_is_no_probability_is_malformed(gateway: StubGateway, score: Any) -> None:
    scores = dict.fromkeys(CATEGORIES, 0.1) | {"hate/threatening": score}
    gateway.reply(200, {"results": [{"category_scores": scores}]})
    with pytest.raises(ServiceMalformed, match="hate/threatening"):
        await a_moderator(gateway).score(["text"])


async def test_a_missing_result_never_means_harmless(gateway: StubGateway) -> None:
    gateway.reply(200, {"results": [{"flagged": False}]})
    with pytest.raises(ServiceMalformed, match="category_scores"):
        await a_moderator(gateway).score(["text"])


async def test_the_worst_part_of_a_long_text_decides(gateway: StubGateway) -> None:
    gateway.answer = lambda request: (200, moderations(request, CATEGORIES))
    scores = await a_moderator(gateway).score(["good " * 50_000 + "bad", "good"])
    assert [row["hate"] for row in scores] == [0.9, 0.01]
    assert len(gateway.requests) > 1


async def test_categories_unknown_to_us_are_left_out(gateway: StubGateway) -> None:
    gateway.answer = lambda request: (200, moderations(request, (*CATEGORIES, "illicit")))
    (scores,) = await a_moderator(gateway).score(["text"])
    assert tuple(scores) == CATEGORIES


async def test_a_language_model_is_given_its_instructions_and_asked_for_json(gateway: StubGateway) -> None:
    gateway.answer = lambda request: (200, completion(request, '{"of": "its own making'))
    model = a_language_model(gateway, tokens_max=70)
    assert await model.complete("Answer in JSON.", "text") == '{"of": "its own making', "it is returned as it came"
    assert gateway.requests[0].path == "/v1/chat/completions"
    assert gateway.requests[0].body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "text"}],
        "response_format": {"type": "json_object"},
        "max_tokens": 70,
    }
    await a_language_model(gateway).complete("Answer in JSON.", "text")
    assert "max_tokens" not in gateway.requests[1].body


@pytest.mark.parametrize("message", [None, {}, {"content": None}, {"content": 7}, {"refusal": "no", "content": None}])
async def test_an_answer_without_text_is_malformed(gateway: StubGateway, message: Any) -> None:
    gateway.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    with pytest.raises(ServiceMalformed):
        await a_language_model(gateway).complete("Answer in JSON.", "text")


@EACH
async def test_the_hosted_gateway_is_not_asked_without_a_key(
    gateway: StubGateway, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORTKEY_API_KEY", raising=False)
    with pytest.raises(SettingsInvalid) as raised:
        await ask(kind, gateway, api_key="", base_url="")
    assert "portkey.api_key" in raised.value.hint


def test_a_missing_extra_is_named_in_one_sentence() -> None:
    """The import is made to fail in a process of its own, where the package is hidden."""
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['portkey_ai'] = None\n"
        "from connectors.embedders import EMBEDDERS\n"
        "from schemas.errors import SettingsInvalid\n"
        "try: EMBEDDERS['portkey'](model='m', dimension=4, api_key='k')\n"
        "except SettingsInvalid as error: print(error.hint)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "promptloom[portkey]" in ran.stdout
    assert json.dumps(ran.stderr) == '""'
