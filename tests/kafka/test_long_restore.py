"""A restore that takes longer than the session timeout costs no membership: heartbeats go on beside it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from confluent_kafka import Producer

from tests.kafka.chain import KEYS, PARTITIONS, Chain, until

pytestmark = pytest.mark.kafka

ROWS = 400_000  # restored at 30,000 to 60,000 a second; the session timeout is 6 s


def fill(chain: Chain) -> None:
    """Give the first stage a large table, as if it had counted a record of each of many keys."""
    producer = Producer({"bootstrap.servers": chain.bootstrap, "linger.ms": 50, "queue.buffering.max.messages": ROWS})
    headers = [("format", b"1"), ("position", b"0")]
    for number in range(ROWS):
        producer.produce(
            f"{chain.run}-first-changelog", b"1", f"old-{number}", partition=number % PARTITIONS, headers=headers
        )
    assert producer.flush(60) == 0


async def test_a_long_restore_keeps_the_membership(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chain = Chain(bootstrap)
    chain.create_topics(chain.engine())
    await asyncio.to_thread(chain.produce, range(KEYS))
    async with chain.engine().running():
        await asyncio.to_thread(chain.output, KEYS)  # from now on there are committed offsets
    await asyncio.to_thread(fill, chain)
    caplog.clear()
    await asyncio.to_thread(chain.produce, range(KEYS, 2 * KEYS))
    async with chain.engine().running():
        await until(lambda: "sessions open" in caplog.messages, 120)
        entries = await asyncio.to_thread(chain.output, 2 * KEYS)
    assert [entry["one"] for entry in sorted(entries, key=lambda entry: entry["id"])] == [1] * KEYS + [2] * KEYS
    (restored,) = [record for record in caplog.records if record.message == "state restored"]
    assert restored.rows_read >= ROWS
    # One assignment, kept: a member that was taken for dead would have had to open its sessions again.
    assert caplog.messages.count("sessions open") == 1
