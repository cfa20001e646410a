"""The transaction of a partition, as far as it goes without a broker."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from streams.engine.exactly_once.producer import ConnectionLost, TransactionalProducer


async def test_no_transaction_begins_behind_a_lost_connection() -> None:
    producer = TransactionalProducer("app-words-3", {"bootstrap_servers": "127.0.0.1:1"})
    producer.connection_lost = True
    with pytest.raises(ConnectionLost):
        await producer.send([])
    assert not producer.in_transaction
    await producer.stop()


@pytest.mark.parametrize("between_transactions", [False, True])
async def test_a_sender_that_failed_is_not_reported_once_more_by_the_loop(*, between_transactions: bool) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    producer = TransactionalProducer("app-words-3", {"bootstrap_servers": "127.0.0.1:1"})
    client = producer._producer._txn_manager
    client.set_pid_and_epoch(1, 0)
    await producer.send([])
    if between_transactions:
        client.committing_transaction()
        client.complete_transaction()
    client.fatal_error(KafkaError("Unexpected error during batch delivery"))
    await producer.stop()
    client._transaction_waiter = None  # with its last reference it goes, and says so where nobody looked at its error
    gc.collect()
    assert reported == []
