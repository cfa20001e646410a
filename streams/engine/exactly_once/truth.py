"""What is true of some source partitions, read after their earlier owners were fenced.

Two things: the committed offset of each, and the rows of the tables it owns. Both are read by clients
of their own: on the connection of the consumer, a request waits behind the fetch under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.careful import Unreadable, read_carefully
from streams.engine.exactly_once.producer import stop_quietly
from streams.engine.limits import FETCH_BYTES_MAX, RESTORE_WAIT_MS_MAX, SILENT_FETCH_S
from streams.engine.tables import ChangelogTable, position_of

log = logging.getLogger(__name__)

Source = tuple[str, int]  # topic and partition
Place = tuple[ChangelogTable, int]  # a partition of a table


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on; not `committed` = the beginning, because nothing was ever committed."""

    offset: int
    committed: bool


@dataclass(slots=True)
class Changes:
    """What was read of a changelog's partition: the newest value of each row (None: deleted), up to offset `end`.

    The rows know of records of the source up to `position`.
    """

    rows: dict[str, bytes | None]
    end: int
    position: int = 0


class Truth:
    """Reads committed offsets and changelogs. Use as an async context manager.

    `on_progress` is told, while changelogs are read, how many of how many offsets are done.
    """

    def __init__(self, group: str, connection: Mapping[str, Any], on_progress: Callable[[int, int], None]) -> None:
        self._group = group
        self._on_progress = on_progress
        self._admin = AIOKafkaAdminClient(**connection)
        self._reader = AIOKafkaConsumer(
            **connection,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=RESTORE_WAIT_MS_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )

    async def __aenter__(self) -> Truth:
        try:
            await self._admin.start()
            await self._reader.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_quietly(self._reader, "changelog reader")
        try:
            await self._admin.close()
        except KafkaError as error:
            log.warning("client did not stop cleanly", extra={"client": "offsets reader", "error": repr(error)})

    async def positions(self, sources: Sequence[Source]) -> dict[Source, Position]:
        """Return, for each source, the position to go on from.

        Raises:
            StateIncompatible: the topic does not reach to a committed offset, or does not reach back to it.
        """
        partitions = [TopicPartition(*source) for source in sources]
        committed = await self._committed(partitions)
        begin = await self._beginnings(partitions)
        end = await self._reader.end_offsets(partitions)  # the last stable offset, reading committed
        found: dict[Source, Position] = {}
        for partition in partitions:
            offset = committed[partition]
            if offset > end[partition]:
                raise StateIncompatible(
                    f"{partition.topic}-{partition.partition} ends at {end[partition]}, but {offset} is committed",
                    hint="the topic was deleted and made anew: delete the group, its changelogs and the workers' state "
                    "folders as well",
                )
            if 0 <= offset < begin[partition]:
                raise StateIncompatible(
                    f"{partition.topic}-{partition.partition} begins at {begin[partition]}, but is processed only up "
                    f"to {offset}: the records between were deleted",
                    hint=f"to go on without them, set the offset of group {self._group} to {begin[partition]}",
                )
            found[partition.topic, partition.partition] = Position(max(offset, begin[partition]), offset >= 0)
        return found

    async def orphan(self, tables: Sequence[ChangelogTable]) -> Place | None:
        """Return a partition of a table that has rows, though nothing is committed of its source; None = none has."""
        if not tables:
            return None
        described = await self._admin.describe_topics([table.changelog for table in tables])
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
        places = [(table, number) for table in tables for number in range(counts[table.changelog])]
        committed = await self._committed(list({TopicPartition(table.owner, number) for table, number in places}))
        missing = {
            TopicPartition(table.changelog, number): (table, number)
            for table, number in places
            if committed[TopicPartition(table.owner, number)] < 0
        }
        begin = await self._beginnings(list(missing))
        end = await self._reader.end_offsets(list(missing))
        for changelog, place in missing.items():
            # Offsets alone do not tell: what was aborted takes some as well. One at a time, for want of memory.
            if end[changelog] > begin[changelog] and (await self.changes({place: None}))[place].rows:
                return place
        return None

    async def _committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the committed offsets, -1 where there is none."""
        found = await self._admin.list_consumer_group_offsets(self._group, partitions=partitions)
        for partition in partitions:
            if partition not in found:
                # The client drops errors of the whole request. No answer is not "no offset".
                raise KafkaError(f"no answer about the committed offset of {partition}")
        return {partition: found[partition].offset for partition in partitions}

    async def _beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        # Of topics the client does not know it learns one a time, with a pause after each.
        client = self._reader._client  # noqa: SLF001
        await client.set_topics(client._topics | {partition.topic for partition in partitions})  # noqa: SLF001
        found: dict[TopicPartition, int] = await self._reader.beginning_offsets(partitions)
        return found

    async def covers(self, offsets: Mapping[tuple[ChangelogTable, int], int]) -> bool:
        """Tell whether the changelogs still hold everything from these offsets on."""
        changelogs = {TopicPartition(table.changelog, partition): at for (table, partition), at in offsets.items()}
        begin = await self._beginnings(list(changelogs))
        end = await self._reader.end_offsets(list(changelogs))
        return all(begin[changelog] <= at <= end[changelog] for changelog, at in changelogs.items())

    async def changes(self, wanted: Mapping[Place, int | None]) -> dict[Place, Changes]:
        """Return what some partitions of some tables hold from an offset (None: the beginning) to the last stable one.

        Raises:
            StateIncompatible: a row is of another format.
        """
        changelogs = {TopicPartition(table.changelog, partition): (table, partition) for table, partition in wanted}
        if not changelogs:
            return {}
        begin = await self._beginnings(list(changelogs))
        end = await self._reader.end_offsets(list(changelogs))
        found: dict[Place, Changes] = {place: Changes({}, end[source]) for source, place in changelogs.items()}
        begin |= {source: offset for source, place in changelogs.items() if (offset := wanted[place]) is not None}
        waiting = {source for source in changelogs if end[source] > begin[source]}
        self._reader.assign(waiting)
        for source in waiting:
            self._reader.seek(source, begin[source])
        left = {source: end[source] - begin[source] for source in waiting}
        total = sum(left.values())
        moved_at = time.monotonic()
        while waiting:
            fetched = await self._fetched(waiting)
            if fetched:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > SILENT_FETCH_S:
                await self._look_for_faults(waiting)
                moved_at = time.monotonic()
            for source, records in fetched.items():
                place = changelogs[source]
                _apply(place[0], found[place], records, whole=wanted[place] is None)
                left[source] = end[source] - records[-1].offset - 1
                self._on_progress(total - sum(left.values()), total)
                await asyncio.sleep(0)  # a rebalance may want to cancel this
            for source in list(waiting):
                # The position passes markers and aborted records at the end, which are never delivered.
                if await self._reader.position(source) >= end[source]:
                    waiting.discard(source)
        return found

    async def _fetched(self, waiting: Collection[TopicPartition]) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            fetched: Mapping[TopicPartition, Sequence[Any]] = await self._reader.getmany(
                *waiting, timeout_ms=RESTORE_WAIT_MS_MAX
            )
        except Exception:  # whatever a parser raises
            await self._look_for_faults(waiting)
            raise
        return fetched

    async def _look_for_faults(self, waiting: Iterable[TopicPartition]) -> None:
        """Tell what cannot be read from what does not come for another reason.

        Raises:
            Unreadable: a changelog is broken.
        """
        positions = {source: await self._reader.position(source) for source in waiting}
        found = await read_carefully(self._reader._client, positions)  # noqa: SLF001
        for changelog, of in found.items():
            if of.fault is not None:
                raise Unreadable(
                    f"{changelog.topic}-{changelog.partition} cannot be read at offset {of.fault.at} "
                    f"({of.fault.error}): mend it, from another replica say; or process the source again: stop all "
                    "workers, delete the changelogs, the offsets of the group and the workers' state folders together"
                )


def _apply(table: ChangelogTable, found: Changes, records: Iterable[Any], *, whole: bool) -> None:
    rows = found.rows
    for record in records:
        table.check_format(record.headers)
        found.position = max(found.position, position_of(record.headers))
        key = record.key.decode("utf-8", "surrogatepass")
        if record.value is None and whole:
            rows.pop(key, None)  # nothing is left that it could delete
        else:
            rows[key] = record.value
