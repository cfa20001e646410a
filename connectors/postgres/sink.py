"""Write batches of rows, and the offsets they came from, in one transaction.

Output     The tables of `infra/migrations`, parents before children.
Guarantee  A batch takes effect whole or not at all, together with its offsets, and only while nobody else has
           moved those. Writing a batch again changes nothing.
Errors     ServiceUnavailable when Postgres is away (write again), UnwritableRow when a row is at fault (write
           the batch in smaller parts to find its record), OffsetsTaken when another sink took over (stop).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncpg import Connection

from connectors.postgres import offsets, statements
from connectors.postgres.connection import Database
from connectors.postgres.offsets import Move, Place
from connectors.postgres.rows import PromptRow, Rows, fold, gives_way, repeat_of

Written = dict[str, int]  # rows by table, as handed to Postgres


class PostgresSink:
    """One writer under one name; `name` keys its offsets."""

    def __init__(self, dsn: str, name: str = "postgres") -> None:
        self.name = name
        self._database = Database(dsn)

    async def positions(self) -> dict[Place, int]:
        """Return where to go on reading; a place without an entry starts at its beginning."""
        async with self._database.connected("reading the sink's offsets") as connection:
            return await offsets.positions(connection, self.name)

    async def write(self, batch: Sequence[Rows], moves: Mapping[Place, Move]) -> Written:
        """Write the rows of a batch's records and move the offsets past them."""
        rows = fold(batch)
        async with self._database.connected("writing a batch to Postgres") as connection, connection.transaction():
            if not await offsets.move(connection, self.name, moves):
                return {}
            return await _write(connection, rows)

    async def close(self) -> None:
        await self._database.close()


async def _write(connection: Connection, rows: Rows) -> Written:
    await _run(connection, statements.FAMILIES, rows.families)
    await _run(connection, statements.CLUSTERS, rows.clusters)
    await _run(connection, statements.CLUSTER_CHANGES, [row for row in rows.clusters if row.record_offset is not None])
    await _run(connection, statements.MAPPINGS, rows.mappings)
    await _run(connection, statements.TEMPLATES, rows.templates)
    await _run(connection, statements.SLOTS, rows.slots)
    await _run(connection, statements.SLOT_STATISTICS, rows.slot_statistics)
    await _run(connection, statements.REFINEMENTS, rows.refinements)
    await _write_prompts(connection, rows.prompts)
    await _run(connection, statements.REPEATS, rows.repeats)
    moved = [row[:3] for row in rows.assignments if row.current and row.sequence > 0]
    await _run(connection, statements.SUPERSEDED, moved)
    await _run(connection, statements.ASSIGNMENTS, rows.assignments)
    await _run(connection, statements.EVENTS, rows.events)
    return {
        "prompt_families": len(rows.families),
        "clusters": len(rows.clusters),
        "family_cluster_mappings": len(rows.mappings),
        "canonical_templates": len(rows.templates),
        "template_slots": len(rows.slots),
        "slot_statistics": len(rows.slot_statistics),
        "template_refinements": len(rows.refinements),
        "prompts": len(rows.prompts),
        "prompt_repeats": len(rows.repeats),
        "cluster_assignments": len(rows.assignments),
        "evolution_events": len(rows.events),
    }


async def _write_prompts(connection: Connection, rows: Sequence[PromptRow]) -> None:
    """Insert the prompts; settle with `rows.gives_way` those whose id another record has taken already."""
    if await _run(connection, statements.PROMPTS, rows) == len(rows):
        return
    keys_and_positions = [row[:2] + row[-2:] for row in rows]
    found = await connection.fetch(statements.CLASHES, *_columns(keys_and_positions))
    statuses = {(clash["prompt_id"], clash["tenant"]): clash["moderation_status"] for clash in found}
    clashing = [row for row in rows if row[:2] in statuses]
    replacing = [row for row in clashing if gives_way(statuses[row[:2]], row.moderation_status)]
    await _run(connection, statements.GIVE_WAY, [row[:2] for row in replacing])
    await _run(connection, statements.REPLACE, replacing)
    await _run(connection, statements.REPEATS, [repeat_of(row) for row in clashing if row not in replacing])


async def _run(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> int:
    """Run a statement that takes one array a column; return how many rows it inserted or updated."""
    if not rows:
        return 0
    return offsets.rows_affected(await connection.execute(statement, *_columns(rows)))


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
