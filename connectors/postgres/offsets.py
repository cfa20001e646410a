"""Where a sink goes on reading: rows of `sink_offsets`, moved by compare-and-set with the rows they vouch for.

Intuition: the offset row is the baton. Whoever writes must hold the place it says, and hands it on in the
same breath as the rows; a sink that slept while another one ran finds the baton further on and can write nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from asyncpg import Connection

from schemas.errors import PromptloomError

Place = tuple[str, int]  # topic and partition
Move = tuple[int | None, int]  # from the next offset as last known (None = no row yet) to the new one

READ = "SELECT topic, partition, next_offset FROM sink_offsets WHERE sink = $1"

CLAIM = """
INSERT INTO sink_offsets (sink, topic, partition, next_offset)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[])
ON CONFLICT (sink, topic, partition) DO NOTHING
"""

MOVE = """
UPDATE sink_offsets SET next_offset = new.next_offset, updated_at = clock_timestamp()
FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS new (topic, partition, known_offset, next_offset)
WHERE sink = $1 AND sink_offsets.topic = new.topic AND sink_offsets.partition = new.partition
    AND sink_offsets.next_offset = new.known_offset
"""


class OffsetsTaken(PromptloomError):
    """Another sink of the same name has moved on; this one may not write."""


async def positions(connection: Connection, sink: str) -> dict[Place, int]:
    """Return the next offset of every place the sink has written from."""
    return {(row["topic"], row["partition"]): row["next_offset"] for row in await connection.fetch(READ, sink)}


async def move(connection: Connection, sink: str, moves: Mapping[Place, Move]) -> bool:
    """Move the sink's offsets inside the caller's transaction; return whether there is still something to write.

    False means that exactly these moves are done already: an earlier try was committed, but its answer was lost.

    Raises:
        OffsetsTaken: some offset is not where the caller thinks it is.
    """
    fresh = [(*place, new) for place, (known, new) in moves.items() if known is None]
    moved = [(*place, known, new) for place, (known, new) in moves.items() if known is not None]
    count = 0
    if fresh:
        count += rows_affected(await connection.execute(CLAIM, sink, *map(list, zip(*fresh, strict=True))))
    if moved:
        count += rows_affected(await connection.execute(MOVE, sink, *map(list, zip(*moved, strict=True))))
    if count == len(moves):
        return True
    stored = await positions(connection, sink)
    if count == 0 and all(stored.get(place) == new for place, (_, new) in moves.items()):
        return False
    raise OffsetsTaken(
        f"writing as sink {sink}: another sink has moved the offsets since this one read them",
        hint="run one sink of a name at a time; this one stops and has written nothing of this batch",
    )


def rows_affected(status: str) -> int:
    """Return the number of rows in a command's status, such as `UPDATE 3`."""
    return int(status.rsplit(" ", 1)[1])
