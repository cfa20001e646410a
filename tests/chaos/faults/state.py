"""What happens to the state: compacted and rolled under the workers' feet, deleted, of another version."""

from __future__ import annotations

import time
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.chaos import harvest
from tests.chaos.faults import FaultFailed
from tests.chaos.faults.workers import AllWorkersKilled
from tests.chaos.harvest import Harvest
from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

STREAM: Side = "stream"
# Segments roll every second and are cleaned as soon as anything in them is outdated; the cleaner looks every 15 s.
COMPACTING = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "1000"}
CONFIGURED_WITHIN_S = 30.0
COMPACTED_WITHIN_S = 75.0
COMPACTED_SHARE_MAX = 0.7  # of the records that were there
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class ChangelogsCompacted:
    """Segments roll and are compacted under load; then all workers are killed and read what is left."""

    name: str = "changelogs compacted, segments rolled, all workers killed"
    side: Side = STREAM

    def strike(self, rig: Rig) -> Mark:
        _configure(rig, COMPACTING)
        _await_compaction(rig)
        return AllWorkersKilled().strike(rig)


def _configure(rig: Rig, entries: dict[str, str]) -> None:
    changes = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in entries.items()]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes) for topic in rig.changelogs]
    admin = AdminClient(rig.connection)  # must outlive its answers
    for future in admin.incremental_alter_configs(resources).values():
        future.result(timeout=CONFIGURED_WITHIN_S)


def _await_compaction(rig: Rig) -> None:
    before = harvest.gather(rig.connection, rig.changelogs)
    deadline = time.monotonic() + COMPACTED_WITHIN_S
    while True:
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
