"""The transaction of a partition, as far as it goes without a broker."""

from __future__ import annotations

import pytest

from streams.engine.exactly_once.producer import ConnectionLost, TransactionalProducer


async def test_no_transaction_begins_behind_a_lost_connection() -> None:
    producer = TransactionalProducer("app-words-3", {"bootstrap_servers": "127.0.0.1:1"})
    producer.connection_lost = True
    with pytest.raises(ConnectionLost):
        await producer.send([])
    assert not producer.in_transaction
    await producer.stop()
