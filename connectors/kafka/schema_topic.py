"""The topic `schemas`: every Avro schema records were ever written with, by fingerprint.

A writer publishes its schema before its first use, and waits until the broker has it; so a reader that
meets a fingerprint and then reads the topic to its end finds it. The topic is compacted, has one
partition and one small record a schema, so it is simply read whole each time.

The key is the fingerprint in hex, the value the schema as JSON.
"""

from __future__ import annotations

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

READ_TIMEOUT_MS = 1_000  # of one poll; the end of the topic is known by its offset
POLLS_WITHOUT_PROGRESS_MAX = 10


def fingerprint_of(definition: Any) -> str:
    """Return the fingerprint (CRC-64-AVRO, in the byte order of the single-object header) as hex."""
    return fingerprint(to_parsing_canonical_form(parse_schema(definition)), "CRC-64-AVRO")


class SchemaTopic:
    """Reads and writes the topic; each call opens and closes its own client, for calls are rare."""

    def __init__(self, kafka: KafkaAccess, *, topic: str = SCHEMAS.name) -> None:
        self._kafka = kafka
        self._topic = topic

    async def publish(self, definitions: Iterable[Any]) -> int:
        """Publish the schemas the topic does not hold yet; return how many that were."""
        held = await self.read()
        fresh = {mark: definition for definition in definitions if (mark := fingerprint_of(definition)) not in held}
        if not fresh:
            return 0
        with _explained("publishing schemas"):
            producer = AIOKafkaProducer(**aiokafka_configuration(self._kafka), acks="all", enable_idempotence=True)
            await producer.start()
            try:
                for mark, definition in sorted(fresh.items()):
                    await producer.send_and_wait(self._topic, orjson.dumps(_plain(definition)), key=mark.encode())
            finally:
                await producer.stop()
        return len(fresh)

    async def read(self) -> dict[str, Any]:
        """Return every schema in the topic, by fingerprint."""
        with _explained("reading schemas"):
            consumer = AIOKafkaConsumer(
                **aiokafka_configuration(self._kafka), isolation_level="read_committed", enable_auto_commit=False
            )
            await consumer.start()
            try:
                return await self._read_to_the_end(consumer)
            finally:
                await consumer.stop()

    async def _read_to_the_end(self, consumer: AIOKafkaConsumer) -> dict[str, Any]:
        partition = TopicPartition(self._topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: dict[str, Any] = {}
        polls_left = POLLS_WITHOUT_PROGRESS_MAX
        while (position := await consumer.position(partition)) < end:
            batch = await consumer.getmany(partition, timeout_ms=READ_TIMEOUT_MS)
            for record in batch.get(partition, []):
                if record.key and record.value:
                    found[record.key.decode("ascii", "replace")] = orjson.loads(record.value)
            # Compaction leaves gaps, so the position may move without a record; it must move, though.
            if await consumer.position(partition) == position:
                polls_left -= 1
                if not polls_left:
                    raise ServiceUnavailable(f"reading schemas: the broker delivers nothing past offset {position}")
        return found


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise ServiceUnavailable(
            f"{doing}: {type(error).__name__}", hint="does the topic `schemas` exist? promptloom topics create"
        ) from error


def _plain(definition: Any) -> Any:
    """Return a schema without the marks fastavro leaves in a parsed one."""
    if isinstance(definition, dict):
        return {name: _plain(value) for name, value in definition.items() if not name.startswith("__")}
    return [_plain(part) for part in definition] if isinstance(definition, list) else definition
