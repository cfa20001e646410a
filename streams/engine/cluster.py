"""What is asked of the Kafka cluster before work begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from schemas.errors import ServiceUnavailable
from streams.engine.exactly_once.wire import DescribeTopics


async def partition_counts(connection: Mapping[str, Any], topics: Sequence[str]) -> dict[str, int]:
    """Return the number of partitions of those topics that exist.

    Raises:
        ServiceUnavailable: there is no broker.
    """
    described = await _described(connection, topics, "looking at the topics")
    return {name: len(partitions) for error, name, _, _, _, partitions, *_ in described.topics if not error}


async def identity(connection: Mapping[str, Any], topics: Iterable[str]) -> str:
    """Return what tells these topics of this cluster from every other, those of the same name included.

    Raises:
        ServiceUnavailable: there is no broker.
    """
    described = await _described(connection, sorted(topics), "looking at the cluster")
    lives = [f"{name}={high:x}.{low:x}" for error, name, high, low, *_ in described.topics if not error]
    return " ".join([described.cluster_id, *sorted(lives)])


async def _described(connection: Mapping[str, Any], topics: Sequence[str], doing: str) -> Any:
    async with _asking(connection, doing) as client:
        return await client.send(client.get_random_node(), DescribeTopics(topics))


@asynccontextmanager
async def _asking(connection: Mapping[str, Any], doing: str) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(**connection)
    try:
        await client.bootstrap()
        yield client
    except KafkaError as error:
        raise ServiceUnavailable(
            f"{doing} on {connection['bootstrap_servers']}: {type(error).__name__}",
            hint="is the broker running, and kafka.bootstrap_servers right?",
        ) from error
    finally:
        await client.close()
