"""The rows of a partition as of its committed position: from the store where it is right, else from the changelogs.

    the store has the committed position    its rows are taken as they are
    it has an earlier one                   and what the changelogs have since is added
    it has a later one, or none, or the     all rows are read from the changelogs, and the store begins anew
    changelogs no longer reach back

A store may be caught up only while the changelog still has everything since: no segment of it deleted, and no
tombstone compacted away, or a row that was deleted meanwhile would live on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.truth import Changes, Position, Source, Truth
from streams.engine.limits import SETTLE_PAUSE_S, SETTLE_SECONDS_MAX, STORE_AGE_SECONDS_MAX
from streams.engine.store import Saved, Store
from streams.engine.tables import ChangelogTable, Rows

log = logging.getLogger(__name__)


async def restore(
    truth: Truth, store: Store, positions: Mapping[Source, Position], tables: Mapping[str, Sequence[ChangelogTable]]
) -> None:
    """Bring the tables of some source partitions to their committed positions; `tables` are by owner topic.

    Raises:
        StateIncompatible: there are rows of another format, or rows without a committed position.
    """
    owned = {source: tables[source[0]] for source in positions if tables[source[0]]}
    kept = {source: await _kept(truth, store, source, positions[source], of) for source, of in owned.items()}
    wanted: dict[tuple[ChangelogTable, int], int | None] = {}
    for source, of in owned.items():
        found = kept[source]
        if found is None:
            wanted |= {(table, source[1]): None for table in of}
        elif found[0].position != positions[source].offset:
            wanted |= {(table, source[1]): found[0].changelogs[table.name] for table in of}
    changes = await truth.changes(wanted)
    if owned:
        _tell(kept, wanted, changes)
    for source, of in owned.items():
        _replace(store, source, positions[source], of, kept[source], changes)
        await asyncio.sleep(0)  # a rebalance may want to cancel this


async def refuse_lost_offsets(
    truth: Truth, positions: Mapping[Source, Position], tables: Sequence[ChangelogTable]
) -> None:
    """Refuse to begin anywhere from the beginning while the offsets of any partition with rows are gone.

    Offsets of a group expire together. A stage without tables cannot tell that from a first start, and would run
    everything again; so it looks at the `tables` of all stages, wherever their partitions are worked on. In a group
    that is new, rows and offsets appear together.

    Raises:
        StateIncompatible: there are rows without a committed position.
    """
    if all(position.committed for position in positions.values()):
        return
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while (orphan := await truth.orphan(tables)) is not None:
        # The owner may just be committing for the first time: markers reach partitions one after the other.
        if time.monotonic() > deadline:
            table, partition = orphan
            raise StateIncompatible(
                f"{table.owner}-{partition} has no committed offset, but table {table.name} has rows of it: "
                "other stages would begin anew, too",
                hint="the group's offsets expired or were reset: restore them, or delete the changelogs and the "
                "workers' state folders as well",
            )
        await asyncio.sleep(SETTLE_PAUSE_S)


def refuse_forgotten_work(
    positions: Mapping[Source, Position], worked: Collection[Source], group: str, notes: str
) -> None:
    """Refuse to begin anew, in an app without tables, where an offset was committed once and is gone.

    There are no rows that could tell; the notes of earlier openings do.

    Raises:
        StateIncompatible: there is such a partition.
    """
    for (topic, partition), position in positions.items():
        if not position.committed and (topic, partition) in worked:
            raise StateIncompatible(
                f"{topic}-{partition} has no committed offset, but had one before: its records would be applied twice",
                hint=f"the offsets of group {group} expired or were reset: restore them; or, to begin anew, set them "
                f"to where to begin, or delete group {notes} as well",
            )


def _tell(
    kept: Mapping[Source, object],
    wanted: Mapping[tuple[ChangelogTable, int], int | None],
    changes: Mapping[tuple[ChangelogTable, int], Changes],
) -> None:
    """Log where the rows came from, in partitions of source topics."""
    read = {(table.owner, partition) for table, partition in wanted}
    log.info(
        "state restored",
        extra={
            "from_store": len(kept.keys() - read),
            "caught_up": sum(found is not None and source in read for source, found in kept.items()),
            "from_changelog": sum(found is None for found in kept.values()),
            "rows_read": sum(len(since.rows) for since in changes.values()),
        },
    )


async def _kept(
    truth: Truth, store: Store, source: Source, position: Position, tables: Sequence[ChangelogTable]
) -> tuple[Saved, dict[str, Rows]] | None:
    """Return what the store has, if it can be built on."""
    saved = await store.find(source, tables)
    if saved is None or not position.committed or saved.position > position.offset:
        return None
    if saved.position < position.offset and not 0 <= time.time() - saved.saved_at_s < STORE_AGE_SECONDS_MAX:
        return None
    if not await truth.covers({(table, source[1]): saved.changelogs[table.name] for table in tables}):
        return None
    rows = await store.rows(source, tables)
    return None if rows is None else (saved, rows)


def _replace(
    store: Store,
    source: Source,
    position: Position,
    tables: Sequence[ChangelogTable],
    kept: tuple[Saved, dict[str, Rows]] | None,
    changes: Mapping[tuple[ChangelogTable, int], Changes],
) -> None:
    partition = source[1]
    for table in tables:
        rows = {} if kept is None else kept[1][table.name]
        since = changes.get((table, partition))
        if since is not None:
            if since.rows and not position.committed:
                raise StateIncompatible(
                    f"{source[0]}-{partition} has no committed offset, but table {table.name} has rows of it: "
                    "they would be applied twice",
                    hint="the group's offsets expired or were reset: restore them, or delete the changelogs and the "
                    "workers' state folders as well",
                )
            if since.position > position.offset:
                raise StateIncompatible(
                    f"{source[0]}-{partition} is committed up to {position.offset}, but rows of table {table.name} "
                    f"know of records up to {since.position}: they would be applied twice",
                    hint=f"the group's offsets were reset: set this one to {since.position} again, or delete the "
                    "changelogs and the workers' state folders as well",
                )
            for key, value in since.rows.items():
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
        table.replace(partition, rows)
    if kept is not None and kept[0].position == position.offset:
        store.begin(source, tables, kept[0], {}, anew=False)
        return
    ends = {table.name: changes[table, partition].end for table in tables}
    changed = {
        table.name: table.rows(partition) if kept is None else changes[table, partition].rows for table in tables
    }
    store.begin(source, tables, Saved(position.offset, ends, time.time()), changed, anew=kept is None)
