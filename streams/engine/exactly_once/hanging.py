"""Transactions that the broker believes decided, but that stand open in some partitions.

How they come about. A transaction is decided in its coordinator's log first; then a marker is written into
every partition that took part. A coordinator that finds no leader for a partition takes the partition
for deleted, skips its marker and calls the transaction complete. A broker that restarts within its session
sees its partitions without leader for a moment: killed between decision and markers, it can load the decision
in just that moment. The records then hang open, the offset commit among them, and the next transaction
of the same producer id takes them along, whatever it is about. With replicas the moment does not come, as
long as every partition keeps a leader; partitions with a single replica on several brokers lose their
markers whenever the broker that leads them is away during a commit.

What is done about it. After the fence the producer id has no transaction, by what the coordinator says; so
whatever stands open under it hangs. It is ended as it was decided: the decision is asked for before the
fence, which erases it, and counts when the fence found nothing else under way. Where there is no decision
the open part is aborted, as if it had never been sent; its records are run again.

Intuition: the notary's book says "sold", but some of the copies were never stamped. The successor looks into
the book before opening a new page, and stamps the remaining copies the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.producer import ProducerId
from streams.engine.exactly_once.wire import DescribeProducers, DescribeTransactions, WriteTxnMarkers

log = logging.getLogger(__name__)

# Codes of the protocol that mean something here; every other one is a reason to try again.
NOT_COORDINATOR = 16
UNKNOWN_TRANSACTIONAL_ID = 105
UNKNOWN_PARTITION = 3  # deleted meanwhile
TOPIC_FORBIDDEN = 29  # somebody else's topic
CLUSTER_FORBIDDEN = 31

OFFSETS_TOPIC = "__consumer_offsets"  # commits of offsets hang there

LEADERLESS_SECONDS_MAX = 30.0  # a broker that was killed is back in about 10

ByLeader = dict[int, dict[str, list[int]]]  # broker, topic, partitions

# The states of a transaction that has been decided, its markers written or not.
DECISIONS = {"PrepareCommit": True, "CompleteCommit": True, "PrepareAbort": False, "CompleteAbort": False}
FENCED = "Empty"  # none was begun since the last fence


@dataclass(frozen=True, slots=True)
class Hanging:
    """What one producer has open in one partition."""

    partition: TopicPartition
    leader: int
    producer: ProducerId
    coordinator_epoch: int
    start: int


@dataclass(frozen=True, slots=True)
class Decision:
    """How the last transaction of an id was decided, and what the id was held under when it was last looked at."""

    producer: ProducerId
    committed: bool
    seen: ProducerId

    def outlives(self, now: ProducerId) -> bool:
        """Return whether nothing was under way since: to fence an owner out of a transaction takes two epochs."""
        return now.number == self.seen.number and now.epoch - self.seen.epoch in (0, 1)


class HangingTransactions:
    """Ends what earlier owners of transactional ids left open: `look`, fence, `fenced`, then `finish`.

    Decisions are kept until everything is finished: when an attempt fails between the fence and the end, the
    next one finds a coordinator that has forgotten them. `topics` are those that must not be skipped without a word.
    """

    def __init__(self, connection: Mapping[str, Any], topics: Iterable[str] = ()) -> None:
        self._connection = connection
        self._own = {*topics, OFFSETS_TOPIC}  # where records of earlier owners may hang
        self._warned = False
        self._last: dict[str, Decision] = {}  # as the coordinator had it before the fence
        self._decided: dict[ProducerId, bool] = {}  # known to hold for whatever hangs under the id
        self._leaderless_since: dict[str, float] = {}  # by partition

    async def look(self, transactional_ids: Iterable[str]) -> None:
        """Ask how the last transaction of each id was decided.

        Raises:
            KafkaError: a coordinator does not answer yet.
        """
        missing = set(transactional_ids)
        if not missing:
            return
        async with self._client() as client:
            for broker in client.cluster.brokers():
                if not missing:
                    return
                answer = await client.send(broker.nodeId, DescribeTransactions(sorted(missing)))
                for error, transactional_id, state, _, _, number, epoch, _, _ in answer.transactions:
                    if error == NOT_COORDINATOR:
                        continue
                    if error not in (0, UNKNOWN_TRANSACTIONAL_ID):
                        raise KafkaError(f"asking for the state of {transactional_id}: error {error}")
                    missing.discard(transactional_id)
                    self._note(transactional_id, state, ProducerId(number, epoch))
            if missing:
                # In a new cluster there is no coordinator until somebody asks for one.
                await client.coordinator_lookup(CoordinationType.TRANSACTION, min(missing))
        if missing:
            raise KafkaError(f"no coordinator answers for {', '.join(sorted(missing))}")

    def fenced(self, transactional_id: str, now: ProducerId) -> None:
        """Take note that an id was fenced and is held under `now`."""
        last = self._last.get(transactional_id)
        # Otherwise the fence has aborted something.
        if last is not None and last.outlives(now):
            self._decided[last.producer] = last.committed

    async def finish(self, held: Iterable[ProducerId]) -> int:
        """End whatever hangs under these producer ids; return in how many partitions something did.

        Raises:
            KafkaError: a broker does not answer yet.
            StateIncompatible: this worker may not write markers.
        """
        numbers = {producer.number for producer in held}
        if not numbers:
            return 0  # no partition was assigned
        async with self._client() as client:
            by_leader = await self._partitions_by_leader(client)
            hanging = [found for found in await self._open(client, by_leader) if found.producer.number in numbers]
            for found in hanging:
                await self._end(client, found)
        self._decided.clear()
        return len(hanging)

    def _note(self, transactional_id: str, state: str, now: ProducerId) -> None:
        last = self._last.pop(transactional_id, None)
        if state in DECISIONS:
            self._last[transactional_id] = Decision(now, DECISIONS[state], now)
        elif state == FENCED and last is not None and last.outlives(now):
            # A fence whose answer was never read, because a rebalance cancelled it, or its connection broke.
            self._last[transactional_id] = replace(last, seen=now)

    async def _end(self, client: AIOKafkaClient, found: Hanging) -> None:
        topic, partition = found.partition
        commit = self._decided.get(found.producer, False)
        log.warning(
            "hanging transaction ended",
            extra={"topic": topic, "partition": partition, "from": found.start, "committed": commit},
        )
        epochs = found.producer.epoch, max(0, found.coordinator_epoch)
        marker = WriteTxnMarkers(topic, partition, found.producer.number, *epochs, commit=commit)
        answer = await client.send(found.leader, marker)
        errors = {error for _, topics, _ in answer.markers for _, partitions, _ in topics for _, error, _ in partitions}
        if CLUSTER_FORBIDDEN in errors:
            raise StateIncompatible(
                f"{topic}-{partition} holds a hanging transaction from offset {found.start} on, "
                "and this worker may not end it",
                hint=f"grant ALTER on the cluster, or run kafka-transactions.sh abort --topic {topic} "
                f"--partition {partition} --start-offset {found.start} and restart",
            )
        if errors != {0}:
            raise KafkaError(f"ending a hanging transaction in {topic}-{partition}: error {errors - {0}}")

    async def _partitions_by_leader(self, client: AIOKafkaClient) -> ByLeader:
        """Return all partitions of the cluster: nobody knows where an earlier version of the app wrote to.

        A partition without a leader may just be on its way back, so it is waited for; but not for ever, because
        it can be one that nobody here has anything to do with.
        """
        if not await client.force_metadata_update():
            raise KafkaError("no broker answers a request for metadata")
        by_leader: ByLeader = {}
        leaderless = []
        for topic in client.cluster.topics(exclude_internal_topics=False):
            for partition in client.cluster.partitions_for_topic(topic) or ():
                leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
                if leader in (None, -1):
                    leaderless.append(f"{topic}-{partition}")
                else:
                    by_leader.setdefault(leader, {}).setdefault(topic, []).append(partition)
        now = time.monotonic()
        # Each by itself: one that is gone for good must not use up the patience with the others.
        since = self._leaderless_since = {name: self._leaderless_since.get(name, now) for name in leaderless}
        waited_for = [name for name in leaderless if now - since[name] < LEADERLESS_SECONDS_MAX]
        if waited_for:
            raise KafkaError(f"partitions have no leader: {', '.join(waited_for[:5])}")
        if leaderless:
            log.warning("partitions have no leader, going on without", extra={"partitions": leaderless[:5]})
        return by_leader

    async def _open(self, client: AIOKafkaClient, by_leader: ByLeader) -> list[Hanging]:
        """Return the open transactions of some partitions, except those of topics that are not ours to see."""
        found: list[Hanging] = []
        forbidden: set[str] = set()
        for leader, partitions in by_leader.items():
            answer = await client.send(leader, DescribeProducers(partitions))
            for topic, described, _ in answer.topics:
                for partition, error, _, producers, _ in described:
                    if error not in (0, UNKNOWN_PARTITION, TOPIC_FORBIDDEN):
                        raise KafkaError(f"asking for the producers of {topic}-{partition}: error {error}")
                    if error == TOPIC_FORBIDDEN:
                        forbidden.add(topic)
                    found += [
                        Hanging(TopicPartition(topic, partition), leader, ProducerId(number, epoch), coordinator, start)
                        for number, epoch, _, _, coordinator, start, _ in producers
                        if start >= 0
                    ]
        unseen = sorted(forbidden & self._own)
        if unseen and not self._warned:
            self._warned = True
            log.warning(
                "hanging transactions cannot be seen in some topics, grant READ on them", extra={"topics": unseen}
            )
        return found

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AIOKafkaClient]:
        client = AIOKafkaClient(**self._connection)
        try:
            await client.bootstrap()  # metadata of every topic, because none was named
            yield client
        finally:
            await client.close()
