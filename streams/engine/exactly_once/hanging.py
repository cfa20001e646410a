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
fence, which erases it, and counts when the fence found nothing else under way. It is noted as well before the fence
(notes.py): the worker may die before everything is ended, and its successor finds nothing in the coordinator any
more. Where there is no decision the open part is aborted, as if it had never been sent; its records are run again.

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
from streams.engine.exactly_once.notes import Decision, Note, Notes
from streams.engine.exactly_once.producer import ProducerId
from streams.engine.exactly_once.truth import Source
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


class HangingTransactions:
    """Ends what earlier owners of transactional ids left open: `look`, fence, `fenced`, then `finish`.

    Decisions are kept until everything is finished: when an attempt fails between the fence and the end, the
    next one, of this worker or another, finds a coordinator that has forgotten them. `topics` are those that must not
    be skipped without a word.
    """

    def __init__(self, group: str, connection: Mapping[str, Any], topics: Iterable[str] = ()) -> None:
        self.worked: set[Source] = set()  # of those looked at, the partitions where an offset has been committed
        self._notes = Notes(group)
        self.notes_group = self._notes.group
        self._connection = connection
        self._own = {*topics, OFFSETS_TOPIC}  # where records of earlier owners may hang
        self._warned = False
        self._last: dict[str, Decision] = {}  # as the coordinator had it before the fence
        self._decided: dict[ProducerId, bool] = {}  # known to hold for whatever hangs under the id
        self._leaderless_since: dict[str, float] = {}  # by partition

    async def look(self, ids: Mapping[str, Source]) -> None:
        """Ask how the last transaction of each transactional id was decided, and note it for whoever comes next.

        Raises:
            KafkaError: a coordinator does not answer yet.
        """
        if not ids:
            return
        async with self._client() as client:
            states = await self._states(client, ids)
            noted = await self._notes.read(client, ids.values())
            notes: dict[Source, Note] = {}
            for transactional_id, (state, now) in states.items():
                source = ids[transactional_id]
                before = noted.get(source, Note())
                decision = self._follow(transactional_id, state, now, before.decision)
                if before.worked:
                    self.worked.add(source)
                if decision is not None:
                    notes[source] = replace(before, decision=decision)
            await self._notes.write(client, notes)

    async def note_worked(self, ids: Mapping[str, Source]) -> None:
        """Note that an offset has been committed in these partitions.

        Raises:
            KafkaError: the coordinator does not answer.
        """
        if not ids:
            return
        async with self._client() as client:
            await self._notes.write(client, {source: Note(self._last.get(name), True) for name, source in ids.items()})
        self.worked |= set(ids.values())

    async def _states(self, client: AIOKafkaClient, ids: Iterable[str]) -> dict[str, tuple[str, ProducerId]]:
        """Return what the coordinators know of transactional ids."""
        missing = set(ids)
        states: dict[str, tuple[str, ProducerId]] = {}
        for broker in client.cluster.brokers():
            if not missing:
                break
            answer = await client.send(broker.nodeId, DescribeTransactions(sorted(missing)))
            for error, transactional_id, state, _, _, number, epoch, _, _ in answer.transactions:
                if error == NOT_COORDINATOR:
                    continue
                if error not in (0, UNKNOWN_TRANSACTIONAL_ID):
                    raise KafkaError(f"asking for the state of {transactional_id}: error {error}")
                missing.discard(transactional_id)
                states[transactional_id] = state, ProducerId(number, epoch)
        if missing:
            # In a new cluster there is no coordinator until somebody asks for one.
            await client.coordinator_lookup(CoordinationType.TRANSACTION, min(missing))
            raise KafkaError(f"no coordinator answers for {', '.join(sorted(missing))}")
        return states

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

    def _follow(self, transactional_id: str, state: str, now: ProducerId, noted: Decision | None) -> Decision | None:
        """Return the last decision of an id, as far as it is known."""
        remembered = self._last.pop(transactional_id, None)
        found = None
        if state in DECISIONS:
            found = Decision(now, DECISIONS[state], now)
        elif state == FENCED:
            # A fence whose answer was never read, because a rebalance cancelled it, or its connection broke; or whose
            # worker died.
            known = (last for last in (remembered, noted) if last is not None and last.outlives(now))
            found = next((replace(last, seen=now) for last in known), None)
        if found is not None:
            self._last[transactional_id] = found
        return found

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
