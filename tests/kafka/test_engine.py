"""The engine on a real broker: what it promises, under kills, poison, failing services and rebalances."""

from __future__ import annotations

import asyncio
import signal
import threading

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.errors import ServiceUnavailable, SettingsInvalid, StateIncompatible
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.exactly_once.unit import HandlerMisuse
from streams.engine.ports import Unit
from tests.kafka.chain import KEYS, Chain, end, until

pytestmark = pytest.mark.kafka


@pytest.fixture
def chain(bootstrap: str) -> Chain:
    return Chain(bootstrap)


def test_killed_workers_lose_and_double_nothing(bootstrap: str) -> None:
    chain = Chain(bootstrap, unit_pause_s=0.005)
    chain.create_topics(chain.engine())
    ids = range(12_000)
    feed = threading.Thread(target=chain.produce, args=(ids, 1_000.0))
    feed.start()
    # Static membership: a restarted worker takes its place at once instead of after the session timeout.
    for seen in (1_000, 4_000, 8_000):
        worker = chain.worker(instance="a")
        chain.read("out", enough=lambda found, seen=seen: len(found) >= seen)
        worker.kill()
        worker.wait()
    worker = chain.worker(instance="a")
    feed.join()
    try:
        chain.assert_exactly_once(ids)
        assert end(worker, signal.SIGTERM) == 0
    finally:
        worker.kill()
        worker.wait()


def test_workers_that_come_and_go_lose_and_double_nothing(bootstrap: str) -> None:
    chain = Chain(bootstrap, unit_pause_s=0.005)
    chain.create_topics(chain.engine())
    ids = range(8_000)
    feed = threading.Thread(target=chain.produce, args=(ids, 1_000.0))
    workers = [chain.worker()]
    try:
        feed.start()
        chain.read("out", enough=lambda found: len(found) >= 500)
        workers.append(chain.worker())
        chain.read("out", enough=lambda found: len(found) >= 2_500)
        workers.append(chain.worker())
        chain.read("out", enough=lambda found: len(found) >= 5_000)
        # The first leaves in good order: its partitions move at once, not after the session timeout.
        assert end(workers[0], signal.SIGTERM) == 0
        feed.join()
        chain.assert_exactly_once(ids)
        assert [end(worker, signal.SIGTERM) for worker in workers[1:]] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_a_worker_that_wakes_up_after_its_partitions_moved_cannot_commit(bootstrap: str) -> None:
    chain = Chain(bootstrap, unit_pause_s=0.005)
    chain.create_topics(chain.engine())
    ids = range(10_000)
    feed = threading.Thread(target=chain.produce, args=(ids, 1_000.0))
    workers = [chain.worker()]
    try:
        feed.start()
        chain.read("out", enough=lambda found: len(found) >= 500)
        workers[0].send_signal(signal.SIGSTOP)
        workers.append(chain.worker())
        # The other one goes on once the session of the first has timed out.
        chain.read("out", enough=lambda found: len(found) >= 6_000)
        workers[0].send_signal(signal.SIGCONT)
        feed.join()
        chain.assert_exactly_once(ids)
        assert [end(worker, signal.SIGTERM) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


async def test_a_restart_continues_with_the_rows_of_the_changelog(chain: Chain) -> None:
    chain.create_topics(chain.engine())
    for start in (0, 200):
        engine = chain.engine()
        await asyncio.to_thread(chain.produce, range(start, start + 200))
        async with engine.running():
            await asyncio.to_thread(chain.assert_exactly_once, range(start + 200))


async def test_poison_and_oversized_results_are_dead_lettered_and_the_rest_passes(chain: Chain) -> None:
    engine = chain.bare_engine()
    seen = engine.table("seen", owner=chain.topic("in"))
    chain.create_topics(engine)

    async def copy(unit: Unit) -> None:
        for record in unit.records:
            number = int((record.value or b"").split(b'"id":')[1].split(b",")[0])
            seen.put(f"{number}", b"")
            size = RECORD_BYTES_MAX if number == 7 else 10
            unit.send(chain.topic("out"), b"%d" % number + b" " * size, partition=unit.partition)
            if number == 11:
                raise ValueError("what came was 'secret'")

    engine.stage("copying", chain.topic("in"), copy)
    await asyncio.to_thread(chain.produce, range(100))
    async with engine.running():
        found = await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= 98)
        letters = await asyncio.to_thread(chain.read, "dead-letters", enough=lambda messages: len(messages) >= 2)
    assert sorted(int(message.value() or b"") for message in found) == [*range(7), *range(8, 11), *range(12, 100)]
    said = {dict(letter.headers() or ())["__errors.exception"]: letter.value() for letter in letters}
    assert said == {
        b"RecordTooLarge": b'{"id":7,"key":"k7"}',
        b"ValueError": b'{"id":11,"key":"k11"}',
    }
    assert {message.key() for message in await asyncio.to_thread(chain.read, "seen-changelog")} == {
        b"%d" % number for number in range(100) if number not in (7, 11)
    }


async def test_records_of_an_aborted_transaction_are_never_seen(chain: Chain) -> None:
    chain.create_topics(chain.engine())
    producer = Producer({"bootstrap.servers": chain.bootstrap, "transactional.id": chain.run})
    producer.init_transactions()
    for key in ("aborted", "committed"):
        producer.begin_transaction()
        for number in range(5):
            producer.produce(chain.topic("in"), orjson.dumps({"id": number, "key": key}), key=key, partition=0)
        producer.flush()
        producer.abort_transaction() if key == "aborted" else producer.commit_transaction()
    async with chain.engine().running():
        entries = await asyncio.to_thread(chain.output, 5)
    assert [(entry["id"], entry["key"], entry["two"]) for entry in entries] == [
        (number, "committed", number + 1) for number in range(5)
    ]


async def test_records_up_to_the_limit_pass(chain: Chain) -> None:
    engine = chain.bare_engine()
    rows = engine.table("rows", owner=chain.topic("in"))
    chain.create_topics(engine)
    large = b"x" * (RECORD_BYTES_MAX - 1_000)

    async def enlarge(unit: Unit) -> None:
        for number, _ in enumerate(unit.records):
            rows.put(f"{number}", large)
            unit.send(chain.topic("out"), large, partition=unit.partition)

    engine.stage("enlarging", chain.topic("in"), enlarge)
    await asyncio.to_thread(chain.produce, range(3))
    async with engine.running():
        found = await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= 3)
    assert [len(message.value() or b"") for message in found] == [len(large)] * 3


async def test_a_failing_service_holds_its_partition_until_it_answers(chain: Chain) -> None:
    engine = chain.bare_engine()
    chain.create_topics(engine)
    answers = False

    async def ask(unit: Unit) -> None:
        for record in unit.records:
            unit.send(chain.topic("out"), record.value, partition=unit.partition)
        if not answers:
            raise ServiceUnavailable("asking the gateway: no answer")

    engine.stage("asking", chain.topic("in"), ask)
    await asyncio.to_thread(chain.produce, range(KEYS))
    async with engine.running():
        await until(lambda: "asking the gateway: no answer" in str(engine.reasons()))
        assert await asyncio.to_thread(chain.read, "out") == []
        answers = True
        found = await asyncio.to_thread(chain.read, "out", enough=lambda messages: len(messages) >= KEYS)
        await until(lambda: not engine.reasons())
    assert len(found) == KEYS
    assert await asyncio.to_thread(chain.read, "dead-letters") == []


async def test_a_partition_that_does_not_exist_stops_the_worker_instead_of_refusing_records(chain: Chain) -> None:
    engine = chain.bare_engine()
    chain.create_topics(engine)

    async def misroute(unit: Unit) -> None:
        unit.send(chain.topic("out"), b"", partition=99)

    engine.stage("misrouting", chain.topic("in"), misroute)
    await asyncio.to_thread(chain.produce, range(1))
    with pytest.raises(HandlerMisuse, match="partition 99"):
        await engine.work()


async def test_caches_learn_when_the_tables_behind_them_were_restored(chain: Chain) -> None:
    chain.create_topics(chain.engine())
    engine = chain.engine()
    view = engine.views(chain.topic("in"))
    before = [view.generation(partition) for partition in range(4)]
    await asyncio.to_thread(chain.produce, range(KEYS))
    async with engine.running():
        await asyncio.to_thread(chain.output, KEYS)
        opened = [view.generation(partition) for partition in range(4)]
    assert all(after > earlier for after, earlier in zip(opened, before, strict=True))


async def test_missing_topics_are_all_named_at_the_start(chain: Chain) -> None:
    with pytest.raises(SettingsInvalid, match=r"-in does not exist.*-first-changelog does not exist"):
        async with chain.engine().running():
            pass


async def test_no_broker_is_said_clearly() -> None:
    with pytest.raises(ServiceUnavailable, match=r"looking at the topics on 127\.0\.0\.1:1"):
        async with Chain("127.0.0.1:1").engine().running():
            pass


def test_state_without_its_offsets_is_refused_instead_of_applied_twice(chain: Chain) -> None:
    chain.create_topics(chain.engine())
    chain.produce(range(KEYS))
    worker = chain.worker()
    chain.output(KEYS)
    assert end(worker, signal.SIGTERM) == 0
    admin = AdminClient({"bootstrap.servers": chain.bootstrap})
    (deleted,) = admin.delete_consumer_groups([chain.run]).values()
    deleted.result()
    with pytest.raises(StateIncompatible, match="they would be applied twice"):
        chain.engine().run()
