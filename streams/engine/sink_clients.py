"""The Kafka clients of a sink: a consumer without a group, and a producer for the few records it gives up.

`configuration` says where the broker is; it comes from the composition root, the engine knows no connector.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.errors import ServiceUnavailable
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.dead_letter import DeadLetters
from streams.engine.limits import BATCH_BYTES_MAX, FETCH_BYTES_MAX, FETCH_WAIT_MS_MAX
from streams.engine.ports import Record


@asynccontextmanager
async def consumer(configuration: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a started consumer of committed records; partitions and offsets are set by its user."""
    client = AIOKafkaConsumer(
        **configuration,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
        fetch_max_bytes=FETCH_BYTES_MAX,
        max_partition_fetch_bytes=RECORD_BYTES_MAX,
    )
    try:
        await client.start()
    except KafkaError as error:
        await client.stop()
        raise ServiceUnavailable(
            f"connecting to Kafka at {configuration['bootstrap_servers']}: {error}",
            hint="is the broker running, and kafka.bootstrap_servers right?",
        ) from error
    try:
        yield client
    finally:
        await client.stop()


class DeadLetterProducer:
    """Sends dead letters outside any transaction; connects when the first one comes.

    A record that fails is read again when the process dies before its offset moves, so a dead letter of a sink
    may come twice: topic, partition and offset in its headers tell.
    """

    def __init__(self, configuration: Mapping[str, Any], dead_letters: DeadLetters) -> None:
        self._configuration = configuration
        self._dead_letters = dead_letters
        self._producer: AIOKafkaProducer | None = None

    async def send(self, record: Record, error: Exception, stage: str) -> None:
        """Return when the broker has the dead letter."""
        letter = self._dead_letters.letter(record, error, stage)
        try:
            producer = await self._started()
            await producer.send_and_wait(
                letter.topic,
                letter.value,
                key=letter.key,
                partition=letter.partition,
                headers=list(letter.headers),
            )
        except KafkaError as failed:
            raise ServiceUnavailable(f"sending a dead letter to {letter.topic}: {failed}") from failed

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._configuration, acks="all", enable_idempotence=True, max_request_size=BATCH_BYTES_MAX
            )
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
