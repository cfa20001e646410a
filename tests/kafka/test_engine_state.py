"""State on a real broker: changelogs of another format are refused, and nothing is half applied."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.errors import StateIncompatible
from streams.engine.engine import Engine
from streams.engine.ports import Unit
from tests.kafka.chain import PARTITIONS, WAIT_SECONDS_MAX, Chain, until

pytestmark = pytest.mark.kafka


@pytest.fixture
def chain(bootstrap: str) -> Chain:
    return Chain(bootstrap)


def counting(chain: Chain, *, row_format: int) -> Engine:
    """Return an engine that counts records in one row."""
    engine = chain.bare_engine()
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


def restored(caplog: pytest.LogCaptureFixture) -> dict[str, int]:
    """Return where the rows came from at the newest start, in partitions."""
    found = [record for record in caplog.records if record.message == "state restored"]
    return {name: getattr(found[-1], name) for name in ("from_store", "caught_up", "from_changelog")}


async def test_a_restart_reads_of_the_changelogs_only_what_its_store_does_not_have(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeping = replace(chain, state_folder=str(tmp_path))
    both = 2 * PARTITIONS  # of two source topics
    chain.create_topics(chain.engine())
    produced = 0

    async def work(on: Chain, **expected: int) -> None:
        nonlocal produced
        await asyncio.to_thread(chain.produce, range(produced, produced + 200))
        produced += 200
        async with on.engine().running():
            await asyncio.to_thread(chain.assert_exactly_once, range(produced))
        assert restored(caplog) == {"from_store": 0, "caught_up": 0, "from_changelog": 0} | expected

    await work(keeping, from_changelog=both)
    await work(keeping, from_store=both)
    await work(chain, from_changelog=both)  # a worker without a store works on the same partitions
    await work(keeping, caught_up=both)
    await work(keeping, from_store=both)
    shutil.rmtree(tmp_path / "state")
    await work(keeping, from_changelog=both)
    for file in next((tmp_path / "state").glob("*/0/rows")).iterdir():
        file.write_bytes(b"broken")
    await work(keeping, from_changelog=both)
    await work(keeping, from_store=both)


async def test_rows_kept_of_topics_that_were_deleted_and_made_anew_are_not_taken_for_theirs(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeping = replace(chain, state_folder=str(tmp_path))
    for made_anew in (False, True):
        if made_anew:
            await asyncio.to_thread(delete_everything, chain)
        chain.create_topics(chain.engine())
        await asyncio.to_thread(chain.produce, range(200))
        # The second time another worker was here first, so that every position is the one the store knows.
        async with (chain if made_anew else keeping).engine().running():
            await asyncio.to_thread(chain.assert_exactly_once, range(200))
    caplog.clear()
    async with keeping.engine().running():
        await until(lambda: "sessions open" in caplog.messages)
    assert restored(caplog) == {"from_store": 0, "caught_up": 0, "from_changelog": 2 * PARTITIONS}


def delete_everything(chain: Chain) -> None:
    """Delete the topics, the changelogs and the group of a chain, and wait until they are gone."""
    admin = AdminClient({"bootstrap.servers": chain.bootstrap})
    for deleted in admin.delete_consumer_groups([chain.run]).values():
        deleted.result()
    for deleted in admin.delete_topics([name for name in admin.list_topics().topics if chain.run in name]).values():
        deleted.result()
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while any(chain.run in name for name in admin.list_topics().topics):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_killed_workers_with_a_store_lose_and_double_nothing(bootstrap: str, tmp_path: Path) -> None:
    chain = Chain(bootstrap, unit_pause_s=0.005, state_folder=str(tmp_path))
    chain.create_topics(chain.engine())
    ids = range(6_000)
    feed = threading.Thread(target=chain.produce, args=(ids, 1_000.0))
    feed.start()
    for seen in (1_000, 3_000):
        worker = chain.worker(instance="a")
        chain.read("out", enough=lambda found, seen=seen: len(found) >= seen)
        worker.kill()
        worker.wait()
    worker = chain.worker(instance="a")
    feed.join()
    try:
        chain.assert_exactly_once(ids)
    finally:
        worker.kill()
        worker.wait()
