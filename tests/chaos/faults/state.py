"""What happens to the state: changelogs compacted and rolled, the copy on disk deleted, outdated, on a full disk.

Changelogs are the truth and the folder on disk only a copy, so whatever happens to the folder may cost time and
nothing else. The last fault comes after the verdict, because it is meant to stop the workers for good.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.embedded.processes import wait_until
from tests.chaos import harvest
from tests.chaos.faults import FaultFailed, FaultSkipped
from tests.chaos.faults.workers import AllWorkersKilled
from tests.chaos.harvest import Harvest, Place
from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

STREAM: Side = "stream"
# Segments roll every second and are cleaned as soon as anything in them is outdated; the cleaner looks every 15 s.
COMPACTING = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "1000"}
CONFIGURED_WITHIN_S = 30.0
COMPACTED_WITHIN_S = 75.0
COMPACTED_SHARE_MAX = 0.7  # of the records that were there
POLL_S = 2.0
OUTDATED_BY_S = (3.0, 6.0)
DISK_BYTES = 1024 * 1024  # of a state that takes more: RocksDB writes that much within seconds
DISK_FULL_WITHIN_S = 45.0
STORE_DROPPED = "state store dropped"  # what a worker says when it goes on without the folder
REFUSED_WITHIN_S = 60.0
REFUSED = "run the version that wrote it"
OTHER_FORMAT = b"999"


@dataclass(frozen=True, slots=True)
class ChangelogsCompacted:
    """Segments roll and are compacted under load; then all workers are killed and read what is left."""

    name: str = "changelogs compacted, segments rolled, all workers killed"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        _compact(rig)
        return AllWorkersKilled().strike(rig, chance)


@dataclass(frozen=True, slots=True)
class StateDeleted:
    """All workers are killed and the folder with their state is deleted: everything comes back from the changelogs."""

    name: str = "state folder deleted, all workers killed"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        mark = rig.mark()
        victims = _kill_all(rig)
        shutil.rmtree(_folder(rig))
        _start_all(rig, victims)
        return mark


@dataclass(frozen=True, slots=True)
class StateOutdated:
    """An older copy of the state folder is put back while no worker runs, as a restored backup would be."""

    name: str = "state folder replaced by an older one"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        folder, older = _folder(rig), rig.folder / "older-state"
        victims = _kill_all(rig)
        shutil.copytree(folder, older)
        _start_all(rig, victims)
        time.sleep(chance.uniform(*OUTDATED_BY_S))
        mark = rig.mark()
        victims = _kill_all(rig)
        shutil.rmtree(folder)
        older.rename(folder)
        _start_all(rig, victims)
        return mark


@dataclass(frozen=True, slots=True)
class DiskFull:
    """The state folder is on a disk of one MiB, which fills up; then all workers are killed and get the room back."""

    name: str = "disk of the state folder full, all workers killed"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        folder = _folder(rig)
        victims = _kill_all(rig)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=False, capture_output=True
        )
        try:
            dropped = _said(rig, STORE_DROPPED)
            _start_all(rig, victims)
            if mounted.returncode:
                raise FaultSkipped("mounting a small disk needs root")
            if not wait_until(lambda: _said(rig, STORE_DROPPED) > dropped, DISK_FULL_WITHIN_S):
                raise FaultFailed(f"no state store met the full disk within {DISK_FULL_WITHIN_S:g} s")
            mark = rig.mark()
            _kill_all(rig)
        finally:
            if not mounted.returncode:
                subprocess.run(["umount", "-l", str(folder)], check=True)
        _start_all(rig, victims)
        return mark


@dataclass(frozen=True, slots=True)
class RowsOfAnotherVersion:
    """A changelog holds a row in a format of another version: workers must refuse to start, and leave it alone."""

    name: str = "rows of another version's format"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        names = rig.fleet.named("worker")
        producer = Producer(rig.connection)
        producer.produce(rig.changelogs[0], b"row", b"from elsewhere", 0, headers=[("format", OTHER_FORMAT)])
        producer.flush()
        before, said = _ends(rig), _said(rig, REFUSED)
        exits = len(rig.fleet.exits)
        _start_all(rig, names)
        if not wait_until(lambda: len(rig.fleet.exits) - exits >= len(names), REFUSED_WITHIN_S):
            raise FaultFailed("a worker runs on rows of another version")
        for name in names:
            rig.fleet.kill(name)
        if _said(rig, REFUSED) == said:
            raise FaultFailed("the workers ended, but did not say that the state is of another version")
        if _ends(rig) != before:
            raise FaultFailed("a worker wrote to changelogs that it must not read")
        return rig.mark()


def _folder(rig: Rig) -> Path:
    return rig.settings.data_dir / "state"


def _kill_all(rig: Rig) -> list[str]:
    victims = rig.fleet.running("worker")
    for victim in victims:
        rig.fleet.kill(victim)
    return victims


def _start_all(rig: Rig, names: Sequence[str]) -> None:
    for name in names:
        rig.fleet.again(name)


def _ends(rig: Rig) -> dict[Place, int]:
    """Return the offset of the last row in each partition of the changelogs."""
    recorded = harvest.gather(rig.connection, rig.changelogs)
    return {
        (topic, number): recorded.last_offset((topic, number))
        for topic, partitions in recorded.records.items()
        for number in partitions
    }


def _said(rig: Rig, words: str) -> int:
    """Return how often workers have logged some words."""
    return sum(path.read_text(errors="replace").count(words) for path in rig.fleet.log_folder.glob("worker-*.log"))


def _configure(rig: Rig, entries: dict[str, str]) -> None:
    changes = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in entries.items()]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes) for topic in rig.changelogs]
    admin = AdminClient(rig.connection)  # must outlive its answers
    for future in admin.incremental_alter_configs(resources).values():
        future.result(timeout=CONFIGURED_WITHIN_S)


def _compact(rig: Rig) -> None:
    """Have the broker compact the changelogs; return when it has."""
    before = harvest.gather(rig.connection, rig.changelogs)
    deadline = time.monotonic() + COMPACTED_WITHIN_S
    while True:
        # Again and again: a worker that starts sets topics back to what the table of topics says.
        _configure(rig, COMPACTING)
        time.sleep(POLL_S)
        share = _share_left(before, harvest.gather(rig.connection, rig.changelogs))
        if share < COMPACTED_SHARE_MAX:
            rig.say(f"changelogs are compacted: {share:.0%} of the records of {rig.load.sent} prompts are left")
            return
        if time.monotonic() > deadline:
            raise FaultFailed(f"the broker compacted nothing within {COMPACTED_WITHIN_S:g} s ({share:.0%} left)")


def _share_left(before: Harvest, after: Harvest) -> float:
    """Return how many of the records that were there before a reader still finds."""
    places = [(topic, number) for topic, partitions in before.records.items() for number in partitions]
    was = sum(len(before.records[topic][number]) for topic, number in places)
    left = sum(
        record.offset <= before.last_offset((topic, number))
        for topic, number in places
        for record in after.records[topic][number]
    )
    return left / max(1, was)
