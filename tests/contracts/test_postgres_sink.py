"""The Postgres sink on a real database: however the records are cut, repeated or broken off, the rows are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import psycopg
import pytest

from connectors.postgres.connection import SchemaOutdated
from connectors.postgres.offsets import Move, OffsetsTaken, Place
from connectors.postgres.queries import TABLES
from connectors.postgres.reader import Integrity, Reader
from connectors.postgres.sink import PostgresSink
from infra import migrations
from schemas.errors import ServiceRefused, ServiceUnavailable, UnwritableRow
from schemas.ids import template_id
from schemas.prompts import ClusterChangeKind
from streams.engine.ports import Record
from streams.prompts.postgres_rows import rows_of
from tests.sink_records import (
    OTHER_FAMILY,
    A,
    B,
    C,
    a_change,
    a_link,
    a_prompt,
    a_refinement,
    a_rejection,
    a_story,
    a_version,
    an_event,
    event_record,
    frame_record,
    refinement_record,
    rejection_record,
    slot_statistics,
)

pytestmark = pytest.mark.postgres

Dump = dict[str, list[tuple[object, ...]]]


class Database:
    """A migrated database of the test's own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        migrations.upgrade(dsn)
        self.connection = psycopg.connect(dsn, autocommit=True)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.connection.execute(query).fetchall()

    def dump(self) -> Dump:
        """Return every row of every table, without the moments of writing."""
        everything: Dump = {}
        for table in (*TABLES, "sink_offsets"):
            rows = self.rows(f"SELECT to_jsonb(t) - 'written_at' - 'updated_at' FROM {table} t")  # noqa: S608  own names
            everything[table] = sorted(((row[0],) for row in rows), key=repr)
        return everything

    def empty(self) -> None:
        migrations.downgrade(self.dsn, "base")
        migrations.upgrade(self.dsn)


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[Database]:
    opened = Database(postgres_dsn)
    yield opened
    opened.connection.close()


class Writer:
    """Feeds a sink as the engine does, keeping the offsets it knows."""

    def __init__(self, sink: PostgresSink) -> None:
        self.sink = sink
        self.known: dict[Place, int] = {}

    async def write(self, records: Sequence[Record], *, moved: bool = True) -> None:
        moves: dict[Place, Move] = {}
        for record in records:
            place = (record.topic, record.partition)
            moves[place] = (self.known.get(place), record.offset + 1)
        await self.sink.write([rows_of(record) for record in records], moves if moved else {})
        if moved:
            self.known.update({place: new for place, (_, new) in moves.items()})

    async def restart(self) -> None:
        self.known = await self.sink.positions()


@pytest.fixture
async def another(database: Database) -> AsyncIterator[Callable[[], Writer]]:
    """Return a function that gives one more writer; all are closed in the end."""
    writers: list[Writer] = []

    def one_more() -> Writer:
        writers.append(Writer(PostgresSink(database.dsn)))
        return writers[-1]

    yield one_more
    for writer in writers:
        await writer.sink.close()


@pytest.fixture
def writer(another: Callable[[], Writer]) -> Writer:
    return another()


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Reader]:
    opened = Reader(database.dsn)
    yield opened
    await opened.close()


async def test_a_story_lands_in_every_table(database: Database, writer: Writer) -> None:
    await writer.write(a_story())
    dump = database.dump()
    assert {table for table in TABLES if dump[table]} == set(TABLES)
    links = database.rows(
        "SELECT prompt_id, sequence, current, cluster_id::text FROM cluster_assignments ORDER BY 1, 2"
    )
    assert links[:3] == [("p1", 0, False, None), ("p1", 1, False, A), ("p1", 2, True, C)]
    assert database.rows("SELECT cluster_id::text, merged_into::text FROM clusters WHERE merged_into IS NOT NULL") == [
        (B, A)
    ]
    # p6 was rejected once and allowed once, p7 rejected twice, p8 allowed before it was rejected, p1 repeated.
    assert database.rows("SELECT prompt_id, moderation_status, prompt_offset FROM prompts ORDER BY 1")[5:] == [
        ("p6", "allowed", 106),
        ("p7", "rejected", 7),
        ("p8", "allowed", 8),
    ]
    assert database.rows("SELECT name FROM prompt_families ORDER BY name") == [("languages",), ("translations",)]
    assert database.rows("SELECT family_id::text FROM family_cluster_mappings") == [(OTHER_FAMILY,)]
    assert database.rows("SELECT prompt_id, outcome, prompt_offset FROM prompt_repeats ORDER BY 1") == [
        ("p1", "duplicate", 100),
        ("p6", "rejected", 6),
        ("p7", "rejected", 107),
        ("p8", "rejected", 108),
    ]


async def test_any_cut_into_batches_gives_the_same_rows(database: Database, writer: Writer) -> None:
    story = a_story()
    await writer.write(story)
    expected = database.dump()
    chance = random.Random(7)  # noqa: S311  the same cuts in every run
    for _ in range(6):
        database.empty()
        await writer.sink.close()
        await writer.restart()
        start = 0
        while start < len(story):
            end = start + chance.randint(1, 5)
            await writer.write(story[start:end])
            start = end
        assert database.dump() == expected


async def test_the_order_between_topics_does_not_matter(database: Database, writer: Writer) -> None:
    story = a_story()
    await writer.write(story)
    expected = database.dump()
    # Within a topic the order is fixed; stable sorting by topic keeps it.
    for reverse in (False, True):
        database.empty()
        await writer.sink.close()
        await writer.restart()
        for record in sorted(story, key=lambda record: record.topic, reverse=reverse):
            await writer.write([record])
        assert database.dump() == expected


async def test_writing_everything_again_changes_nothing(database: Database, writer: Writer) -> None:
    story = a_story()
    await writer.write(story)
    expected = database.dump()
    await writer.write(story, moved=False)
    assert database.dump() == expected
    for record in story:
        await writer.write([record], moved=False)
        assert database.dump() == expected, "an old record undid a newer one"


async def test_a_frozen_second_sink_cannot_write(
    database: Database, writer: Writer, another: Callable[[], Writer]
) -> None:
    frozen = another()
    first, second, third = (frame_record(offset, a_link(a_prompt(offset), A)) for offset in range(3))
    await frozen.write([first])
    await writer.restart()
    await writer.write([second, third])
    before = database.dump()
    with pytest.raises(OffsetsTaken):
        await frozen.write([second])
    assert database.dump() == before


async def test_of_two_sinks_that_write_at_once_one_fails_whole(
    database: Database, another: Callable[[], Writer]
) -> None:
    writers = [another(), another()]
    batches = [[frame_record(0, *(a_link(a_prompt(n), A) for n in range(100)))], [frame_record(0), frame_record(1)]]
    for one in writers:
        await one.restart()
    results = await asyncio.gather(
        *(one.write(batch) for one, batch in zip(writers, batches, strict=True)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "OffsetsTaken"]
    wrote_first = results[0] is None
    assert database.rows("SELECT count(*) FROM prompts") == [(100 if wrote_first else 0,)]


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    database: Database, writer: Writer, another: Callable[[], Writer]
) -> None:
    records = a_story()
    unsure = another()
    await writer.write(records)
    before = database.dump()
    await unsure.write(records)  # the same moves again: done already, which is success and no change
    assert database.dump() == before


async def test_a_batch_that_fails_leaves_nothing_behind(database: Database, writer: Writer) -> None:
    bad = a_link(a_prompt(2), "no-uuid")
    with pytest.raises(UnwritableRow) as refused:
        await writer.write([frame_record(0, a_link(a_prompt(1), A)), frame_record(1, bad)])
    assert "Translate" not in str(refused.value)
    assert not any(database.dump().values())
    await writer.write([frame_record(0, a_link(a_prompt(1), A))])


async def test_a_connection_that_breaks_is_opened_again(database: Database, writer: Writer) -> None:
    await writer.write([frame_record(0, a_link(a_prompt(1), A))])
    database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'promptloom'")
    with pytest.raises(ServiceUnavailable):
        await writer.write([frame_record(1, a_link(a_prompt(2), A))])
    await writer.write([frame_record(1, a_link(a_prompt(2), A))])
    assert database.rows("SELECT count(*) FROM prompts") == [(2,)]


async def test_what_postgres_refuses_in_text_is_stored_as_its_symbol(database: Database, writer: Writer) -> None:
    prompt = a_prompt(1, "say \0 and \\u0000", metadata_json='{"a": "x\\u0000y", "b": "\\\\u0000"}', source="a\0b")
    link = a_link(prompt, A, slots={"what": "\0"}, template_id=template_id(A, "2.0.0"), template_version="2.0.0")
    version = a_version(A, "2.0.0", template="say {{what}} and \\u0000", description="\0")
    await writer.write([frame_record(0, link), event_record(0, an_event(version, diff="-\0", reason="\0"))])
    assert database.rows("SELECT text, metadata->>'a', metadata->>'b', source FROM prompts") == [
        ("say \u2400 and \\u0000", "x\u2400y", "\\u0000", "a\u2400b")
    ]
    template, slots = database.rows(
        "SELECT t.template, a.slots FROM cluster_assignments a JOIN canonical_templates t USING (template_id)"
    )[0]
    assert str(template).replace("{{what}}", slots["what"]) == "say \u2400 and \\u0000"  # type: ignore[index]


async def test_moments_far_off_and_the_largest_prompt_are_written(database: Database, writer: Writer) -> None:
    largest = a_prompt(1, "é" * (128 * 1024), created_at_ms=2**62, received_at_ms=-(2**62))
    await writer.write([frame_record(0, a_link(largest, A, slots={"what": largest.text}))])
    assert database.rows(
        "SELECT octet_length(text), extract(year FROM created_at AT TIME ZONE 'UTC')::int FROM prompts"
    ) == [(256 * 1024, 9999)]


async def test_ids_are_unique_within_a_tenant_only(database: Database, writer: Writer) -> None:
    await writer.write([frame_record(0, a_link(a_prompt(1), A), a_link(a_prompt(1, tenant="other"), B))])
    assert database.rows("SELECT prompt_id, tenant FROM prompts ORDER BY tenant") == [("p1", "acme"), ("p1", "other")]


async def test_a_late_lower_link_joins_the_chain_without_becoming_current(database: Database, writer: Writer) -> None:
    await writer.write([frame_record(0, a_link(a_prompt(1), B, 1))])
    await writer.write([frame_record(1, a_link(a_prompt(1), A, 0))])
    assert database.rows("SELECT sequence, current FROM cluster_assignments ORDER BY 1") == [(0, False), (1, True)]


async def test_a_duplicate_is_counted_and_nothing_else(database: Database, writer: Writer) -> None:
    await writer.write([frame_record(0, a_link(a_prompt(1, offset=9), A, duplicate=True))])
    dump = database.dump()
    assert [table for table in TABLES if dump[table]] == ["prompt_repeats"]


async def test_a_revived_cluster_is_no_longer_retired(database: Database, writer: Writer) -> None:
    retired, revived = (a_change(kind, A) for kind in (ClusterChangeKind.RETIRED, ClusterChangeKind.REVIVED))
    await writer.write([frame_record(0, changes=(retired,))])
    assert database.rows("SELECT retired FROM clusters") == [(True,)]
    await writer.write([frame_record(1, changes=(revived,))])
    assert database.rows("SELECT retired FROM clusters") == [(False,)]
    await writer.write([frame_record(0, changes=(retired,))], moved=False)
    assert database.rows("SELECT retired FROM clusters") == [(False,)]


async def test_missing_tables_are_named_with_what_to_do(database: Database, writer: Writer) -> None:
    migrations.downgrade(database.dsn, "base")
    with pytest.raises(SchemaOutdated) as missing:
        await writer.restart()
    assert missing.value.hint == "promptloom migrate"


async def test_a_database_that_does_not_answer_is_unavailable_and_one_that_is_not_there_is_refused(
    postgres_dsn: str,
) -> None:
    with pytest.raises(ServiceUnavailable):
        await PostgresSink("postgresql://me@127.0.0.1:1/x").positions()
    with pytest.raises(ServiceRefused):
        await PostgresSink(postgres_dsn.replace("/test_", "/absent_")).positions()


async def test_the_reader_answers_from_what_the_sink_wrote(writer: Writer, reader: Reader) -> None:
    await writer.write(a_story())
    first, *others = await reader.clusters()
    # p2, p3, p6 are in A, p4 in B, which was merged into A.
    assert (first.cluster_id, first.members, first.version, first.slot_names) == (A, 4, "1.3.0", ("what",))
    assert (first.family_name, [cluster.members for cluster in others]) == ("translations", [3])
    assert await reader.resolve(B[:9]) == [A]
    shown = await reader.cluster(A, examples=2)
    assert shown is not None
    assert [version.version for version in shown.versions] == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert shown.merged_cluster_ids == (B,)
    assert [example.prompt_id for example in shown.examples] == ["p6", "p4"]
    assert [event.new_version for event in await reader.events(cluster_id=A, limit=2)] == ["1.3.0", "1.2.0"]
    (history,) = await reader.why("p1")
    assert [link.cluster_id for link in history.chain] == [None, A, C]
    (rejected,) = await reader.why("p7")
    assert (rejected.text, rejected.chain) == (None, ())
    assert await reader.cluster("10000000-0000-0000-0000-000000000000") is None
    stats = await reader.stats()
    assert (stats.rejected, stats.clustered, stats.unclustered, stats.duplicate) == (4, 7, 0, 1)
    # Eight ids and four repeats: every record of `prompts` in the story is counted once.
    assert stats.prompts == stats.rows["prompts"] + stats.rows["prompt_repeats"] == 12
    assert stats.events == {"CREATED": 2, "UPDATED": 3}
    assert stats.latency_ms_p95 is not None
    assert await reader.integrity() == Integrity(unassigned=0, gaps=0)


async def test_names_of_a_model_stand_beside_the_offline_ones_and_are_preferred(
    database: Database, writer: Writer, reader: Reader
) -> None:
    version = a_version()
    await writer.write([frame_record(0, a_link(a_prompt(1), A)), event_record(0, an_event(version))])
    (offline,) = await reader.clusters()
    assert (offline.name, offline.family_name, offline.named_by) == ("translate", "translations", "")
    refinement = a_refinement(version)
    await writer.write([refinement_record(0, refinement)])
    shown = await reader.cluster(A)
    assert shown is not None
    cluster, (slot,) = shown.cluster, shown.slots
    assert (cluster.name, cluster.offline_name, cluster.named_by) == ("French translation", "translate", "gpt")
    assert (cluster.family_name, cluster.offline_family_name) == ("Translation", "translations")
    assert (slot.name, slot.refined_name) == ("what", "source_text")
    assert (cluster.slot_names, cluster.template) == (("what",), version.template), "the template itself stands"
    assert database.rows("SELECT name FROM canonical_templates UNION SELECT name FROM prompt_families ORDER BY 1") == [
        ("translate",),
        ("translations",),
    ]


async def test_the_newest_refinement_counts_and_an_older_one_that_comes_again_changes_nothing(
    writer: Writer, reader: Reader
) -> None:
    version = a_version()
    old = refinement_record(0, a_refinement(version, family_name="Old family"))
    new = refinement_record(1, a_refinement(version, name="New name", family_name="", model="newer"))
    await writer.write([frame_record(0, a_link(a_prompt(1), A)), event_record(0, an_event(version)), old, new])
    await writer.write([old], moved=False)
    (cluster,) = await reader.clusters()
    assert (cluster.name, cluster.named_by) == ("New name", "newer")
    assert (cluster.family_name, cluster.family_named_by) == ("translations", "")


async def test_the_next_version_has_its_offline_name_until_it_is_refined_itself(writer: Writer, reader: Reader) -> None:
    first, second = a_version(), a_version(version="1.1.0", name="translate please")
    link = frame_record(0, a_link(a_prompt(1), A))
    events = [event_record(0, an_event(first)), event_record(1, an_event(second, previous="1.0.0"))]
    await writer.write([link, *events, refinement_record(0, a_refinement(first))])
    (cluster,) = await reader.clusters()
    assert (cluster.name, cluster.named_by) == ("translate please", "")
    assert cluster.family_name == "Translation", "the family keeps the newest name a model gave it"


async def test_a_gap_in_a_chain_is_seen(writer: Writer, reader: Reader) -> None:
    await writer.write([frame_record(0, a_link(a_prompt(1), A, 0), a_link(a_prompt(1), A, 2))])
    assert await reader.integrity() == Integrity(unassigned=0, gaps=1)


async def test_a_rejected_prompt_keeps_its_hash_and_scores_but_no_text(database: Database, writer: Writer) -> None:
    await writer.write([rejection_record(0, a_rejection(1))])
    assert database.rows("SELECT text, text_sha256, moderation->>'reason', moderation_status FROM prompts") == [
        (None, "0" * 64, "hate", "rejected")
    ]


async def test_the_newest_allowed_texts_of_a_tenant_come_oldest_first(
    database: Database, writer: Writer, reader: Reader
) -> None:
    await writer.write(a_story())
    rows = database.rows(
        "SELECT tenant, text FROM prompts WHERE moderation_status = 'allowed' "
        "ORDER BY received_at, prompt_partition, prompt_offset"
    )
    tenant = rows[0][0]
    stored = [text for owner, text in rows if owner == tenant]
    assert await reader.texts(tenant=tenant, limit=100) == stored
    assert await reader.texts(tenant=tenant, limit=2) == stored[-2:]
    assert await reader.texts(tenant="nobody", limit=2) == []


@pytest.mark.parametrize("first", ["version", "statistics"])
async def test_statistics_of_slots_are_refreshed_whichever_topic_comes_first(
    database: Database, writer: Writer, first: str
) -> None:
    version = a_version()
    refreshed = slot_statistics(version, 64)
    records = [event_record(0, an_event(version)), frame_record(0, statistics=(refreshed,))]
    for record in records if first == "version" else reversed(records):
        await writer.write([record])
    assert database.rows("SELECT statistics->>'values' FROM template_slots") == [(None,)], "a version never changes"
    assert database.rows("SELECT statistics->>'values' FROM current_slots") == [("64",)]
