"""State on a real broker: changelogs of another format are refused, and nothing is half applied."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Producer

from connectors.kafka.client import aiokafka_configuration
from schemas.errors import StateIncompatible
from streams.engine.engine import Engine
from streams.engine.ports import Unit
from tests.kafka.chain import Chain

pytestmark = pytest.mark.kafka


@pytest.fixture
def chain(bootstrap: str) -> Chain:
    return Chain(bootstrap)


def counting(chain: Chain, *, row_format: int) -> Engine:
    """Return an engine that counts records in one row."""
    engine = Engine(
        chain.settings, aiokafka_configuration(chain.settings.kafka), dead_letters=chain.topic("dead-letters")
    )
    table = engine.table("counted", owner=chain.topic("in"), row_format=row_format)

    async def count(unit: Unit) -> None:
        table.put("count", b"%d" % (int(table.get("count") or b"0") + len(unit.records)))
        for record in unit.records:
            unit.send(chain.topic("out"), record.value, partition=unit.partition)

    engine.stage("counting", chain.topic("in"), count)
    return engine


async def test_rows_of_another_format_are_refused_and_left_as_they_are(chain: Chain) -> None:
    chain.create_topics(counting(chain, row_format=1))
    await asyncio.to_thread(chain.produce, range(40))
    async with counting(chain, row_format=1).running():
        await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= 40)
    await asyncio.to_thread(chain.produce, range(40, 80))
    for other in (2, 7):
        with pytest.raises(StateIncompatible, match=rf"has a row of format 1, not {other}") as refused:
            await counting(chain, row_format=other).work()
        assert "run the version that wrote it" in refused.value.hint
    assert len(await asyncio.to_thread(chain.read, "out")) == 40
    async with counting(chain, row_format=1).running():  # the version that wrote them goes on where it stood
        await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= 80)
    newest = {
        message.partition(): message.value() for message in await asyncio.to_thread(chain.read, "counted-changelog")
    }
    assert sum(int(value or b"") for value in newest.values()) == 80


async def test_rows_that_say_no_format_are_refused(chain: Chain) -> None:
    chain.create_topics(counting(chain, row_format=1))
    await asyncio.to_thread(chain.produce, range(40))
    async with counting(chain, row_format=1).running():
        await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= 40)
    producer = Producer({"bootstrap.servers": chain.bootstrap})
    producer.produce(chain.topic("counted-changelog"), b"?", "count", partition=0)
    producer.flush()
    with pytest.raises(StateIncompatible, match="has a row of format none, not 1"):
        await counting(chain, row_format=1).work()
