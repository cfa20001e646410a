"""Make the topics of the topics table, and say how those that exist differ from it.

Rules
  * Creating is idempotent. A topic that is missing is made; one whose configuration differs is set back to the
    table; one with another number of partitions stops everything before anything is changed, because tenants
    would move to other partitions than their state.
  * The broker stamps records (LogAppendTime). A producer's clock would otherwise decide about retention: a
    replayed prompt of two years ago would be deleted on arrival.
  * Segments roll several times within a retention, because Kafka deletes whole segments only: text must not
    outlive its named retention by a week.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from connectors.kafka.client import REQUEST_BYTES_MAX, KafkaAccess, confluent_configuration
from schemas.errors import ServiceRefused, ServiceUnavailable, SettingsInvalid
from schemas.limits import MIB
from schemas.topics import HOUR_MS, Topic

REQUEST_TIMEOUT_S = 15.0
APPEAR_TIMEOUT_S = 30.0  # a new topic is known to every broker only after a moment
APPEAR_POLL_S = 0.1

# These mean that no broker answered.
UNREACHABLE = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE}  # noqa: SLF001  librdkafka's public names

SEGMENTS_PER_RETENTION = 8
# A compacted topic is read whole at every start, so it is kept short: rolled and cleaned early.
COMPACTED_SEGMENT_MS = 10 * 60 * 1000
COMPACTED_SEGMENT_BYTES = 64 * MIB
COMPACTED_DIRTY_RATIO_MIN = 0.1


class Outcome(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it. `configuration` holds the entries the table decides about."""

    name: str
    partitions: int
    replication_factor: int
    configuration: dict[str, str]


def configuration_of(topic: Topic) -> dict[str, str]:
    """Return the broker's configuration of a topic of the table (or of a changelog described in the same way)."""
    entries = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(REQUEST_BYTES_MAX),
        "message.timestamp.type": "LogAppendTime",
    }
    if topic.compacted:
        entries["segment.ms"] = str(COMPACTED_SEGMENT_MS)
        entries["segment.bytes"] = str(COMPACTED_SEGMENT_BYTES)
        entries["min.cleanable.dirty.ratio"] = str(COMPACTED_DIRTY_RATIO_MIN)
    elif topic.retention_ms > 0:
        entries["segment.ms"] = str(max(HOUR_MS, topic.retention_ms // SEGMENTS_PER_RETENTION))
    return entries


class Admin:
    """The few things done to topics."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._servers = kafka.bootstrap_servers
        self._client = AdminClient(confluent_configuration(kafka))

    def create(self, topics: Sequence[Topic], *, partitions: int, replication_factor: int) -> dict[str, Outcome]:
        """Make what is missing and set differing configurations back; `partitions` is the deployment's number."""
        states = self.states([topic.name for topic in topics])
        refuse_other_partitions(topics, states, partitions)
        missing = [topic for topic in topics if topic.name not in states]
        self._make(missing, partitions, replication_factor)
        differing = {
            topic.name: wanted
            for topic in topics
            if (state := states.get(topic.name)) and (wanted := differences(topic, state))
        }
        self._set(differing)
        made = {topic.name for topic in missing}
        return {
            topic.name: Outcome.CREATED
            if topic.name in made
            else Outcome.UPDATED
            if topic.name in differing
            else Outcome.UNCHANGED
            for topic in topics
        }

    def states(self, names: Iterable[str]) -> dict[str, TopicState]:
        """Return how the broker has those of the named topics that exist."""
        wanted = list(names)
        metadata = self._call("listing topics", lambda: self._client.list_topics(timeout=REQUEST_TIMEOUT_S))
        found = [name for name in wanted if name in metadata.topics]
        if not found:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in found]
        futures = self._client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        states = {}
        for resource, future in futures.items():
            entries = self._call(f"describing the topic {resource.name}", future.result)
            parts = metadata.topics[resource.name].partitions
            states[resource.name] = TopicState(
                name=resource.name,
                partitions=len(parts),
                replication_factor=min((len(part.replicas) for part in parts.values()), default=0),
                configuration={name: str(entry.value) for name, entry in entries.items()},
            )
        return states

    def _make(self, topics: Sequence[Topic], partitions: int, replication_factor: int) -> None:
        if not topics:
            return
        requests = [
            NewTopic(topic.name, topic.partitions or partitions, replication_factor, config=configuration_of(topic))
            for topic in topics
        ]
        for name, future in self._client.create_topics(requests, request_timeout=REQUEST_TIMEOUT_S).items():
            try:
                self._call(f"creating the topic {name}", future.result)
            except ServiceRefused as error:
                # Two processes may create topics at once; the other one used the same table.
                if not _already_exists(error.__cause__):
                    raise
        self._await({topic.name for topic in topics})

    def _await(self, names: set[str]) -> None:
        deadline = time.monotonic() + APPEAR_TIMEOUT_S
        while missing := names - _usable(self._client.list_topics(timeout=REQUEST_TIMEOUT_S).topics):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"creating topics: the broker does not show {', '.join(sorted(missing))}")
            time.sleep(APPEAR_POLL_S)

    def _set(self, differing: Mapping[str, Mapping[str, str]]) -> None:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(entry, value, incremental_operation=AlterConfigOpType.SET)
                    for entry, value in entries.items()
                ],
            )
            for name, entries in differing.items()
        ]
        if resources:
            for resource, future in self._client.incremental_alter_configs(resources).items():
                self._call(f"configuring the topic {resource.name}", future.result)

    def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except KafkaException as error:
            cause = error.args[0]
            message = f"{doing} at {self._servers}: {cause.str()}"
            if cause.retriable() or cause.code() in UNREACHABLE:
                raise ServiceUnavailable(message, hint="promptloom status shows whether the broker runs") from error
            raise ServiceRefused(message) from error


def differences(topic: Topic, state: TopicState) -> dict[str, str]:
    """Return the entries of the table's configuration that the broker has otherwise."""
    return {name: value for name, value in configuration_of(topic).items() if state.configuration.get(name) != value}


def refuse_other_partitions(topics: Iterable[Topic], states: Mapping[str, TopicState], partitions: int) -> None:
    """Raise SettingsInvalid, naming every topic that has another number of partitions than it should."""
    problems: dict[str, list[str]] = {}
    for topic in topics:
        wanted, state = topic.partitions or partitions, states.get(topic.name)
        if state and state.partitions != wanted:
            problems.setdefault(f"{state.partitions} partitions instead of {wanted}", []).append(topic.name)
    if problems:
        raise SettingsInvalid(
            "checking topics: " + "; ".join(f"{problem}: {', '.join(names)}" for problem, names in problems.items()),
            hint="set kafka.partitions to the number the topics have: another one would part tenants from their state",
        )


def _usable(topics: Mapping[str, Any]) -> set[str]:
    """Return the topics whose every partition has a leader: a topic is listed before it can be read."""
    return {
        name
        for name, topic in topics.items()
        if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values())
    }


def _already_exists(error: BaseException | None) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
