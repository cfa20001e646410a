"""A process tells whether it lives, whether it is ready, and why not."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import SettingsInvalid
from streams.engine import health
from streams.engine.health import Vitals
from streams.engine.metrics import CounterSpec, Metrics


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_show_what_the_engine_and_the_app_counted() -> None:
    metrics = Metrics("promptloom", (CounterSpec("prompts", "Prompts by outcome.", ("outcome",)),))
    metrics.count("prompts", 3, {"outcome": "rejected"})
    metrics.dead_lettered("moderation", "InvalidPrompt", "prompts")
    port = health.serve("127.0.0.1", 0, metrics.registry, Vitals(dict))
    status, body = get(port, "/metrics")
    assert status == 200
    assert 'promptloom_prompts_total{outcome="rejected"} 3.0' in body
    assert 'promptloom_dead_letters_total{kind="InvalidPrompt",stage="moderation",topic="prompts"} 1.0' in body


def test_an_undeclared_counter_is_an_error_and_not_a_new_metric() -> None:
    with pytest.raises(KeyError):
        Metrics("promptloom").count("misspelt", 1, {})


def test_ready_says_why_not_and_since_when() -> None:
    reasons: dict[str, str] = {}
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), Vitals(lambda: reasons))
    assert get(port, "/ready")[0] == 200
    reasons["embedding/3"] = "ServiceUnavailable: the gateway does not answer"
    status, body = get(port, "/ready")
    assert status == 503
    assert json.loads(body)["reasons"] == reasons
    since = json.loads(body)["since"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(since["embedding/3"])).total_seconds()) < 60
    reasons["embedding/3"] = "ServiceRateLimited: too many requests"
    assert json.loads(get(port, "/ready")[1])["since"] == since
    assert get(port, "/live")[0] == 200
    assert get(port, "/elsewhere")[0] == 404
    reasons.clear()
    assert get(port, "/ready")[0] == 200


async def test_a_loop_that_does_not_answer_is_not_live_and_not_ready() -> None:
    vitals = Vitals(dict, silent_s_max=0.3)
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), vitals)
    async with vitals.beating():
        await asyncio.sleep(0)
        assert (await asyncio.to_thread(get, port, "/live"))[0] == 200
        time.sleep(0.5)  # noqa: ASYNC251  what is tested: the loop is blocked, and the server's thread is not
        status, body = get(port, "/live")
        assert status == 503
        assert "has not answered for" in json.loads(body)["reason"]
        assert "event loop" in json.loads(get(port, "/ready")[1])["reasons"]


def test_a_taken_port_is_said_so() -> None:
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), Vitals(dict))
    with pytest.raises(SettingsInvalid, match=str(port)):
        health.serve("127.0.0.1", port, CollectorRegistry(), Vitals(dict))
