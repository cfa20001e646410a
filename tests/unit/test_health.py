"""A process tells whether it lives, whether it is ready, and why not."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import SettingsInvalid
from streams.engine import health
from streams.engine.metrics import CounterSpec, Metrics


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_show_what_the_engine_and_the_app_counted() -> None:
    metrics = Metrics((CounterSpec("prompts", "Prompts by outcome.", ("outcome",)),))
    metrics.count("prompts", 3, {"outcome": "rejected"})
    metrics.dead_lettered("moderation", "InvalidPrompt", "prompts")
    port = health.serve("127.0.0.1", 0, metrics.registry, dict)
    status, body = get(port, "/metrics")
    assert status == 200
    assert 'promptloom_prompts_total{outcome="rejected"} 3.0' in body
    assert 'promptloom_dead_letters_total{kind="InvalidPrompt",stage="moderation",topic="prompts"} 1.0' in body


def test_an_undeclared_counter_is_an_error_and_not_a_new_metric() -> None:
    with pytest.raises(KeyError):
        Metrics().count("misspelt", 1, {})


def test_ready_says_why_not() -> None:
    reasons: dict[str, str] = {}
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), lambda: reasons)
    assert get(port, "/ready")[0] == 200
    reasons["embedding/3"] = "ServiceUnavailable: the gateway does not answer"
    status, body = get(port, "/ready")
    assert status == 503
    assert json.loads(body)["reasons"] == reasons
    assert get(port, "/live")[0] == 200
    assert get(port, "/elsewhere")[0] == 404


def test_a_taken_port_is_said_so() -> None:
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), dict)
    with pytest.raises(SettingsInvalid, match=str(port)):
        health.serve("127.0.0.1", port, CollectorRegistry(), dict)
