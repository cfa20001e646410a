"""What is asked of the Kafka cluster before work begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from schemas.errors import ServiceUnavailable
from streams.engine.exactly_once.wire import DescribeTopics


async def partition_counts(connection: Mapping[str, Any], topics: Sequence[str]) -> dict[str, int]:
    """Return the number of partitions of those topics that exist.

    Raises:
        ServiceUnavailable: there is no broker, or it cannot tell now.
    """
    _, described = await _described(connection, topics, "looking at the topics")
    return {name: len(partitions) for _, name, _, _, _, partitions, *_ in described}


async def identity(connection: Mapping[str, Any], topics: Iterable[str]) -> str:
    """Return what tells these topics of this cluster from every other, those of the same name included.

    Raises:
        ServiceUnavailable: there is no broker, or it cannot tell now.
    """
    cluster_id, described = await _described(connection, topics, "looking at the cluster")
    return " ".join([cluster_id, *sorted(f"{name}={high:x}.{low:x}" for _, name, high, low, *_ in described)])


async def _described(connection: Mapping[str, Any], topics: Iterable[str], doing: str) -> tuple[str, list[Any]]:
    """Return the cluster's id and what it says of those topics that exist."""
    async with _asking(connection, doing) as client:
        answer = await client.send(client.get_random_node(), DescribeTopics(topics))
    return answer.cluster_id, existing(answer.topics, doing)


def existing(topics: Iterable[Any], doing: str) -> list[Any]:
    """Return the topics of an answer but for those that do not exist.

    Raises:
        ServiceUnavailable: the broker does not tell of one. It may exist all the same, so it cannot be left out.
    """
    found = [topic for topic in topics if topic[0] != UnknownTopicOrPartitionError.errno]
    for error, name, *_ in found:
        if error:
            raise ServiceUnavailable(
                f"{doing}: the broker does not tell of {name}: {for_code(error).__name__}",
                hint="it may pass; may this user describe the topic?",
            )
    return found


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
