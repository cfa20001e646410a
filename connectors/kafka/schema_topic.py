"""The topic `schemas`: every Avro schema records were ever written with, by fingerprint.

A writer publishes its schema before its first use, and waits until the broker has it; so a reader that
meets a fingerprint and then reads the topic to its end finds it. The topic is compacted, has one
partition and one small record a schema, so it is simply read whole each time.

The key is the fingerprint in hex, the value the schema as JSON.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from connectors.kafka.client import KafkaAccess, aiokafka_configuration
from schemas.errors import ServiceUnavailable
from schemas.topics import SCHEMAS

READ_TIMEOUT_S = 20.0
POLL_TIMEOUT_MS = 500

log = logging.getLogger(__name__)


def fingerprint_of(definition: Any) -> str:
    """Return the fingerprint (CRC-64-AVRO, in the byte order of the single-object header) as hex."""
    return fingerprint(to_parsing_canonical_form(parse_schema(definition)), "CRC-64-AVRO")


class SchemaTopic:
    """Reads and writes the topic; each call opens and closes its own client, for calls are rare."""

    def __init__(self, kafka: KafkaAccess, *, topic: str = SCHEMAS.name) -> None:
        self._kafka = kafka
        self._topic = topic

    async def publish(self, definitions: Iterable[Any]) -> int:
        """Publish the schemas (as JSON holds them) the topic does not have yet; return how many that were."""
        held = await self.read()
        fresh = {mark: definition for definition in definitions if (mark := fingerprint_of(definition)) not in held}
        if not fresh:
            return 0
        with _explained("publishing schemas"):
            producer = AIOKafkaProducer(**aiokafka_configuration(self._kafka), acks="all", enable_idempotence=True)
            try:
                await producer.start()
                for mark, definition in sorted(fresh.items()):
                    await producer.send_and_wait(self._topic, orjson.dumps(definition), key=mark.encode())
            finally:
                await producer.stop()
        return len(fresh)

    async def read(self) -> dict[str, Any]:
        """Return every schema in the topic, by fingerprint."""
        with _explained("reading schemas"):
            consumer = AIOKafkaConsumer(
                **aiokafka_configuration(self._kafka), isolation_level="read_committed", enable_auto_commit=False
            )
            try:
                await consumer.start()
                async with asyncio.timeout(READ_TIMEOUT_S):
                    return await self._read_to_the_end(consumer)
            finally:
                await consumer.stop()

    async def _read_to_the_end(self, consumer: AIOKafkaConsumer) -> dict[str, Any]:
        if self._topic not in await consumer.topics():
            raise ServiceUnavailable(
                f"reading schemas: there is no topic {self._topic}", hint="promptloom topics create makes it"
            )
        partition = TopicPartition(self._topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: dict[str, Any] = {}
        # Compaction and transactions leave gaps, so the end is known by position, not by the last record.
        while await consumer.position(partition) < end:
            batch = await consumer.getmany(partition, timeout_ms=POLL_TIMEOUT_MS)
            for record in batch.get(partition, []):
                _keep(found, record.key, record.value)
        return found


def _keep(found: dict[str, Any], key: bytes | None, value: bytes | None) -> None:
    """Take one record into account. One that is no schema is passed over: it must not lock the others out."""
    name = (key or b"").decode("ascii", "replace")
    if value is None:
        found.pop(name, None)
        return
    try:
        found[name] = orjson.loads(value)
    except orjson.JSONDecodeError:
        log.warning("passed over a record of the schemas topic that is no JSON", extra={"fingerprint": name})


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise ServiceUnavailable(
            f"{doing}: {type(error).__name__}", hint="promptloom status shows whether the broker runs"
        ) from error
