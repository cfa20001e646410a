"""What a worker waits for while nobody works on its partitions: nothing that can be left out."""

from __future__ import annotations

import asyncio
import inspect
import logging
import subprocess
import sys

import pytest

from streams.engine import app as faust_app
from streams.engine.settings import EngineSettings
from tests.kafka.chain import KEYS, Chain

pytestmark = pytest.mark.kafka

# Each loads for long, and serves only commands, or services that the settings have to name.
UNNEEDED = ("httpx", "rich", "portkey_ai", "qdrant_client", "psycopg", "pandas")


async def test_a_session_opens_without_asking_for_offsets_of_topics_it_has_not_heard_of(
    bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each such topic would cost a pause: more than a second with the topics of a real app."""
    chain = Chain(bootstrap)
    chain.create_topics(chain.engine())
    await asyncio.to_thread(chain.produce, range(KEYS))
    caplog.set_level(logging.DEBUG, "aiokafka.consumer.fetcher")
    for _ in range(2):  # the second one restores
        async with chain.engine().running():
            await asyncio.to_thread(chain.output, KEYS)
    assert [line for line in caplog.messages if "is unknown for fetching offset" in line] == []


@pytest.mark.parametrize(("session_s", "heartbeat_s"), [(6.0, 0.5), (8.0, 0.5), (300.0, 0.5)])
async def test_a_worker_hears_of_a_rebalance_within_half_a_second(session_s: float, heartbeat_s: float) -> None:
    settings = EngineSettings(app_id="app", session_timeout_s=session_s)
    app = faust_app.build(settings, 1, {"bootstrap_servers": "localhost:1"}, [], [], None)  # type: ignore[arg-type]
    assert app.conf.broker_heartbeat_interval == heartbeat_s


async def test_a_worker_does_not_wait_for_tables_that_are_declared_late() -> None:
    app = faust_app.build(EngineSettings(app_id="app"), 1, {"bootstrap_servers": "localhost:1"}, [], [], None)  # type: ignore[arg-type]
    assert type(app.tables) is faust_app.TableManager
    assert "sleep" not in inspect.getsource(type(app.tables).on_start)


def test_a_worker_loads_nothing_that_only_others_need() -> None:
    program = f"import sys, streams.prompts.worker; print([name for name in {UNNEEDED} if name in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout.strip() == "[]"
