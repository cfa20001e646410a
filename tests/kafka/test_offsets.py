"""Offsets that no longer belong to the rows: refused at the start, instead of applying records twice or losing them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from schemas.errors import StateIncompatible
from schemas.topics import Topic
from streams.engine.exactly_once.sessions import Sessions
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.exactly_once.truth import Source
from streams.engine.ports import NullObserver, Unit
from streams.engine.tables import ChangelogTable, View
from tests.kafka.chain import KEYS, PARTITIONS, Chain, until
from tests.session_run import DEAD_LETTERS

pytestmark = pytest.mark.kafka


@pytest.fixture
async def chain(bootstrap: str) -> Chain:
    """Return a chain that has worked off two records of each key and stopped."""
    found = Chain(bootstrap)
    found.create_topics(found.engine())
    await asyncio.to_thread(found.produce, range(2 * KEYS))
    async with found.engine().running():
        await asyncio.to_thread(found.output, 2 * KEYS)
    return found


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


async def committed(admin: AdminClient, chain: Chain) -> list[TopicPartition]:
    """Return the committed offsets of the first stage."""
    request = ConsumerGroupTopicPartitions(chain.run)
    (answer,) = admin.list_consumer_group_offsets([request]).values()
    found = await asyncio.wrap_future(answer)
    return sorted(place for place in found.topic_partitions if place.topic == chain.topic("in"))


async def commit(admin: AdminClient, chain: Chain, offsets: Sequence[TopicPartition]) -> None:
    """Set offsets from outside, as an operator would."""
    request = ConsumerGroupTopicPartitions(chain.run, list(offsets))
    (answer,) = admin.alter_consumer_group_offsets([request]).values()
    await asyncio.wrap_future(answer)


async def delete_group(admin: AdminClient, chain: Chain) -> None:
    (answer,) = admin.delete_consumer_groups([chain.run]).values()
    await asyncio.wrap_future(answer)


async def refusal(chain: Chain) -> str:
    """Start a worker that must refuse; return what it says, with the advice."""
    with pytest.raises(StateIncompatible) as refused:
        await chain.engine().work()
    return f"{refused.value} {refused.value.hint}"


async def test_offsets_that_are_gone_are_refused(chain: Chain, admin: AdminClient) -> None:
    await delete_group(admin, chain)
    said = await refusal(chain)
    assert f"{chain.topic('in')}-" in said or f"{chain.topic('mid')}-" in said
    assert "no committed offset, but table" in said
    assert "would be applied twice" in said


class Opening:
    """A worker that was assigned one partition of a stage without tables, behind the two of the chain."""

    def __init__(self, chain: Chain) -> None:
        self.refused: list[Exception] = []
        self.positions: dict[Source, int] = {}
        self.source = chain.topic("out"), 0
        names = {chain.topic("in"): "first", chain.topic("mid"): "second"}
        topics = [*names, chain.topic("out")]
        self.sessions = Sessions(
            {topic: Stage(topic, topic, leave) for topic in topics},
            [ChangelogTable(name, topic, f"{chain.run}-{name}-changelog") for topic, name in names.items()],
            {topic: View() for topic in topics},
            Surroundings(chain.run, 8, 0.0, 0.01, DEAD_LETTERS, NullObserver()),
            aiokafka_configuration(chain.kafka),
            self.refused.append,
        )
        self.sessions.open(self, [self.source])

    @property
    def over(self) -> bool:
        return bool(self.refused or self.positions)

    async def go_on_from(self, epoch: int, positions: Mapping[Source, int]) -> None:  # noqa: ARG002  as the consumer has it
        self.positions |= positions

    def rejoin(self) -> None: ...

    def last_stable_offset(self, source: Source) -> int | None: ...


async def leave(unit: Unit) -> None: ...


async def test_a_stage_without_tables_begins_anew_only_where_no_rows_have_lost_their_offsets(
    chain: Chain, admin: AdminClient
) -> None:
    added = Opening(chain)  # to a group that has done work
    await until(lambda: added.over)
    await added.sessions.close()
    assert (added.positions, added.refused) == ({added.source: 0}, [])
    await delete_group(admin, chain)
    late = Opening(chain)
    await until(lambda: late.over)
    await late.sessions.close()
    assert late.positions == {}
    assert "no committed offset, but table" in str(late.refused[0])


async def test_a_new_group_begins_while_others_of_it_commit_for_the_first_time(bootstrap: str) -> None:
    chain = Chain(bootstrap)
    chain.create_topics(chain.engine())
    await asyncio.to_thread(chain.produce, range(KEYS))
    openings = []
    async with chain.engine().running():
        for _ in range(5):
            openings.append(Opening(chain))
            await until(lambda: openings[-1].over)
            await openings[-1].sessions.close()
        await asyncio.to_thread(chain.assert_exactly_once, range(KEYS))
    assert [opening.refused for opening in openings] == [[]] * 5


async def test_offsets_that_were_moved_back_are_refused_until_they_are_put_right(
    chain: Chain, admin: AdminClient
) -> None:
    right = await committed(admin, chain)
    place = right[0]
    await commit(admin, chain, [TopicPartition(place.topic, place.partition, place.offset - 3)])
    said = await refusal(chain)
    assert f"{place.topic}-{place.partition} is committed up to {place.offset - 3}" in said
    assert "table first know of records up to" in said
    await commit(admin, chain, [place])
    await asyncio.to_thread(chain.produce, range(2 * KEYS, 3 * KEYS))
    async with chain.engine().running():
        await asyncio.to_thread(chain.assert_exactly_once, range(3 * KEYS))


async def test_a_topic_made_anew_under_old_rows_is_refused(chain: Chain, admin: AdminClient) -> None:
    (deleted,) = admin.delete_topics([chain.topic("in")]).values()
    await asyncio.wrap_future(deleted)
    topic = Topic(chain.topic("in"), "key", "entry", public=False, retention_ms=-1)
    await asyncio.to_thread(Admin(chain.kafka).create, [topic], partitions=PARTITIONS, replication_factor=1)
    await asyncio.to_thread(chain.produce, range(4 * KEYS))  # more than were there before
    assert "would be applied twice" in await refusal(chain)


async def test_records_deleted_before_they_were_processed_are_said_and_skipped_only_on_demand(
    chain: Chain, admin: AdminClient
) -> None:
    await asyncio.to_thread(chain.produce, range(2 * KEYS, 4 * KEYS))
    places = await committed(admin, chain)
    place = places[0]
    limit = TopicPartition(place.topic, place.partition, place.offset + 4)
    (deleted,) = admin.delete_records([limit]).values()
    await asyncio.wrap_future(deleted)
    said = await refusal(chain)
    assert f"{place.topic}-{place.partition} begins at {place.offset + 4}" in said
    assert f"processed only up to {place.offset}" in said
    await commit(admin, chain, [limit])
    async with chain.engine().running():
        entries = await asyncio.to_thread(chain.output, 4 * KEYS - 4)
    assert len(entries) == 4 * KEYS - 4


async def test_records_deleted_under_a_running_worker_stop_it(chain: Chain, admin: AdminClient) -> None:
    engine = chain.engine()
    working = asyncio.create_task(engine.work())
    await until(lambda: not engine.reasons())
    place = (await committed(admin, chain))[0]
    producer = AIOKafkaProducer(bootstrap_servers=chain.bootstrap, transactional_id=f"{chain.run}-other")
    await producer.start()
    # Records of an open transaction: the worker does not get them before they are gone.
    await producer.begin_transaction()
    for _ in range(5):
        await producer.send_and_wait(place.topic, b"{}", partition=place.partition)
    (deleted,) = admin.delete_records([TopicPartition(place.topic, place.partition, place.offset + 3)]).values()
    await asyncio.wrap_future(deleted)
    with pytest.raises(StateIncompatible, match=f"begins at {place.offset + 3}, but is processed only up to"):
        await working
    await producer.stop()
