"""The tables of Postgres against the topics: what an undisturbed sink would have written, row by row.

A second, empty database takes the recorded topics in one quiet pass, through the same writer. All columns must agree
but those that say when a row was written. The order in which a sink meets the topics must not matter either, so the
quiet pass reads them one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import psycopg

from connectors.postgres.queries import TABLES
from connectors.postgres.sink import PostgresSink
from infra import migrations
from streams.engine.ports import Record
from streams.prompts.postgres_rows import TOPICS, rows_of
from tests.chaos.checks import Finding
from tests.chaos.harvest import Harvest

ORACLE_DATABASE = "undisturbed"
BATCH_RECORDS = 400
UNTOLD_COLUMNS = {"written_at", "updated_at"}  # when, not what
CURRENT = """
SELECT count(*) FILTER (WHERE currents = 0), count(*) FILTER (WHERE currents > 1), count(*) FROM (
    SELECT count(*) FILTER (WHERE current) AS currents
    FROM prompts LEFT JOIN cluster_assignments USING (prompt_id, tenant)
    WHERE moderation_status = 'allowed' GROUP BY prompts.prompt_id, prompts.tenant
) AS chains
"""


async def findings(dsn: str, recorded: Harvest) -> list[Finding]:
    """Compare every table; and by itself: has each accepted prompt exactly one current assignment?"""
    undisturbed = _create(dsn)
    sink = PostgresSink(undisturbed)
    try:
        for topic in TOPICS:
            for batch in _batches(recorded.of(topic)):
                await sink.write([rows_of(record) for record in batch], {})
    finally:
        await sink.close()
    with psycopg.connect(dsn) as one, psycopg.connect(undisturbed) as other:
        results = [_compare(table, _rows(other, table), _rows(one, table)) for table in TABLES]
        none, several, prompts = one.execute(CURRENT).fetchone() or (0, 0, 0)
    return [*results, Finding("one current assignment", prompts, none, several, 0)]


def reached(dsn: str) -> dict[tuple[str, int], int]:
    """Return the offset after the last record the sink has written, by topic and partition."""
    with psycopg.connect(dsn) as database:
        rows = database.execute("SELECT topic, partition, next_offset FROM sink_offsets").fetchall()
    return {(topic, partition): offset for topic, partition, offset in rows}


def _create(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {ORACLE_DATABASE}")
    undisturbed = urlsplit(dsn)._replace(path=f"/{ORACLE_DATABASE}").geturl()
    migrations.upgrade(undisturbed)
    return undisturbed


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for at in range(0, len(records), BATCH_RECORDS):
        yield records[at : at + BATCH_RECORDS]


def _rows(database: psycopg.Connection, table: str) -> Counter[str]:
    cursor = database.execute(f"SELECT * FROM {table}".encode())  # noqa: S608  names of this module
    names = [column.name for column in cursor.description or ()]
    told = [at for at, name in enumerate(names) if name not in UNTOLD_COLUMNS]
    return Counter(repr([row[at] for at in told]) for row in cursor)


def _compare(table: str, expected: Counter[str], found: Counter[str]) -> Finding:
    missing, surplus = expected - found, found - expected
    # A row that differs is missing on the one side and too many on the other.
    different = min(missing.total(), surplus.total())
    sample = (
        f"expected {next(iter(missing), '')[:400]} found {next(iter(surplus), '')[:400]}" if missing or surplus else ""
    )
    return Finding(
        f"postgres {table}",
        expected.total(),
        missing.total() - different,
        surplus.total() - different,
        different,
        sample,
    )
