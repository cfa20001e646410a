"""What `/ready` says of an engine at work on a real broker, read over HTTP as an orchestrator would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client import CollectorRegistry

from connectors.kafka.client import aiokafka_configuration
from schemas.errors import ServiceUnavailable
from streams.engine import health
from streams.engine.exactly_once.truth import Truth
from streams.engine.ports import Unit
from streams.engine.tables import ChangelogTable
from tests.kafka.chain import Chain, until

pytestmark = pytest.mark.kafka


@pytest.fixture
def chain(bootstrap: str) -> Chain:
    return Chain(bootstrap)


def answer(port: int) -> tuple[int, Mapping[str, str]]:
    found = httpx.get(f"http://127.0.0.1:{port}/ready")
    return found.status_code, json.loads(found.text)["reasons"]


async def test_it_says_what_waits_for_which_service_and_is_ready_again_afterwards(chain: Chain) -> None:
    engine = chain.bare_engine()
    chain.create_topics(engine)
    away = True

    async def ask(unit: Unit) -> None:
        if away:
            raise ServiceUnavailable("asking the oracle: no answer")
        unit.count("asked", len(unit.records))

    engine.stage("asking", chain.topic("in"), ask)
    port = health.serve("127.0.0.1", 0, CollectorRegistry(), engine.vitals)
    assert answer(port) == (503, {"engine": "not started"})
    await asyncio.to_thread(chain.produce, range(40))
    async with engine.running(), engine.vitals.beating():
        await until(lambda: len(answer(port)[1]) == 4)  # one for each partition
        status, reasons = answer(port)
        place = f"asking {chain.topic('in')}-0"
        assert (status, reasons[place]) == (503, "ServiceUnavailable: asking the oracle: no answer")
        away = False
        await until(lambda: answer(port) == (200, {}))
    assert answer(port) == (503, {"engine": "stopped"})


async def test_reading_a_changelog_tells_how_far_it_is(chain: Chain) -> None:
    engine = chain.engine()
    chain.create_topics(engine)
    await asyncio.to_thread(chain.produce, range(400))
    async with engine.running():
        await asyncio.to_thread(chain.assert_exactly_once, range(400))
    told: list[tuple[int, int]] = []
    table = ChangelogTable("first", chain.topic("in"), f"{chain.run}-first-changelog")
    connection = aiokafka_configuration(chain.kafka)
    async with Truth(chain.run, connection, lambda done, total: told.append((done, total))) as truth:
        found = await truth.changes({(table, partition): None for partition in range(4)})
    assert sum(len(changes.rows) for changes in found.values()) == 50
    assert told == sorted(told)
    done, total = told[-1]
    assert 0 < total - done <= 4  # the marker at the end of each partition is no record
