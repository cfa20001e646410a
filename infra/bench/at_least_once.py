"""The engine's producer without its guarantee, to measure what the guarantee costs.

It sends the same batches, waits for the same acknowledgements and commits the same offsets, but without a transaction
around them, and it fences nobody. For benches only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.protocol.commit import OffsetCommitRequest

from schemas.errors import ServiceUnavailable
from streams.engine.exactly_once.producer import ProducerId, TransactionalProducer
from streams.engine.limits import BATCH_BYTES_MAX, SEND_BATCH_BYTES


class AtLeastOnceProducer(TransactionalProducer):
    """Offsets go to a group of their own: those of the real one are for its members, and nothing here reads them."""

    def __init__(self, transactional_id: str, connection: Mapping[str, Any]) -> None:
        super().__init__(transactional_id, connection)
        self._unused, self._producer = (
            self._producer,
            AIOKafkaProducer(
                **connection,
                enable_idempotence=True,
                acks="all",
                max_batch_size=SEND_BATCH_BYTES,
                max_request_size=BATCH_BYTES_MAX,
                linger_ms=0,
            ),
        )
        self.in_transaction = True  # so that none is begun
        self._coordinator: int | None = None

    async def start(self) -> ProducerId:
        await self._producer.start()
        return ProducerId(-1, -1)

    async def commit(self, source: tuple[str, int], position: int, group: str) -> dict[tuple[str, int], int]:
        written = await asyncio.gather(*self._futures)
        self._futures.clear()
        group = f"{group}-at-least-once"
        client = self._producer.client
        if self._coordinator is None:
            self._coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
            await client.ready(self._coordinator)
        topic, partition = source
        request = OffsetCommitRequest(group, -1, "", -1, [(topic, [(partition, position, "")])])
        answer = await client.send(self._coordinator, request)
        ((_, ((_, error),)),) = answer.topics
        if error:
            raise ServiceUnavailable(f"committing offsets at least once: error {error}")
        return {(batch.topic, batch.partition): batch.offset for batch in written if batch.offset >= 0}

    async def stop(self) -> None:
        await super().stop()
        await self._unused.stop()
