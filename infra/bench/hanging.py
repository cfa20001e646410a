"""Hunt for hanging transactions: kill the one broker amid hundreds of commits a second, restart it, look, repair, look.

    python -m infra.bench.hanging --kills 20 --ids 64

Each kill prints in how many partitions a decided transaction still stands open, and in how many after the
repair that every worker does before it reads the truth. `streams/engine/exactly_once/hanging.py` says how they
come about; about one kill in twenty leaves one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from connectors.kafka.admin import Admin
from infra.embedded.kafka import Kafka
from schemas.topics import Topic
from streams.engine.exactly_once.hanging import HangingTransactions
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import Outgoing
from streams.settings import KafkaSettings, load

TOPICS = ("one", "two", "three")
SOURCE = "source"
PARTITIONS = 8
LOAD_SECONDS = (4.0, 6.0)  # from the start of the producers to the kill
READY_SECONDS_MAX = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ids", type=int, default=64, help="transactional ids that commit at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    ids = [f"hunted-{number}" for number in range(options.ids)]
    if options.load:
        asyncio.run(_commit_for_ever(options.load, ids))
        return
    moments = random.Random(options.seed)  # noqa: S311  not a secret
    with tempfile.TemporaryDirectory() as folder:
        broker = Kafka(Path(folder), load().cache_dir)
        broker.start(detached=False)
        try:
            topics = [Topic(name, "", "", public=False, retention_ms=-1) for name in (*TOPICS, SOURCE)]
            settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
            Admin(settings).create(topics, partitions=PARTITIONS, replication_factor=1)
            for kill in range(1, options.kills + 1):
                _kill_under_load(broker, options.ids, moments.uniform(*LOAD_SECONDS))
                found, left = asyncio.run(_repair(broker.bootstrap_servers, ids))
                sys.stdout.write(f"kill {kill}: hanging in {found} partitions, after the repair in {left}\n")
                sys.stdout.flush()
        finally:
            broker.stop()


def _kill_under_load(broker: Kafka, ids: int, seconds: float) -> None:
    """Restart the broker after a kill; its clients die with it, so that nobody finishes what they began."""
    command = [sys.executable, "-m", __spec__.name, "--ids", str(ids), "--load", broker.bootstrap_servers]
    clients = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(seconds)
        broker.kill()
    finally:
        clients.kill()
        clients.wait()
    broker.restart()


async def _repair(bootstrap_servers: str, ids: list[str]) -> tuple[int, int]:
    """Do what a worker does when it opens its sessions; return what hung, and what still does."""
    connection = {"bootstrap_servers": bootstrap_servers}
    hanging = HangingTransactions("bench", connection)
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            try:
                # Several ids share a note here, which is no harm: a note counts only for the producer it names.
                await hanging.look({name: (SOURCE, number % PARTITIONS) for number, name in enumerate(ids)})
                break
            except KafkaError:  # it still loads
                await asyncio.sleep(0.2)
        held = []
        for name in ids:
            producer = TransactionalProducer(name, connection)
            held.append(await producer.start())
            hanging.fenced(name, held[-1])
            await producer.stop()
        return await hanging.finish(held), await hanging.finish(held)


async def _commit_for_ever(bootstrap_servers: str, ids: list[str]) -> None:
    connection: dict[str, Any] = {"bootstrap_servers": bootstrap_servers}

    async def commit(name: str, partition: int) -> None:
        producer = TransactionalProducer(name, connection)
        await producer.start()
        position = 0
        while True:
            position += 1
            await producer.send(Outgoing(topic, partition, None, b"x") for topic in TOPICS)
            await producer.commit((SOURCE, partition), position, f"group of {name}")

    await asyncio.gather(*(commit(name, number % PARTITIONS) for number, name in enumerate(ids)))


if __name__ == "__main__":
    main()
