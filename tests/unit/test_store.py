"""State on disk: what comes back, what is dropped, and that a restore never depends on it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.restore import restore
from streams.engine.exactly_once.truth import Changes, Place, Position
from streams.engine.limits import (
    STORE_AGE_SECONDS_MAX,
    STORE_BATCH_BYTES,
    STORE_CLOSE_SECONDS_MAX,
    STORE_QUEUE_BYTES_MAX,
)
from streams.engine.rocks_store import RocksStore
from streams.engine.store import NoStore, Saved, Source, Store, Written
from streams.engine.tables import ChangelogTable, Rows
from tests.session_run import TOPIC, Run
from tests.unit.test_engine_pieces import adding

SOURCE = ("words", 3)
OTHER = ("words", 4)


def tables(row_format: int = 1) -> list[ChangelogTable]:
    return [ChangelogTable(name, "words", f"app-{name}-changelog", row_format) for name in ("counts", "last")]


def saved(position: int, offset: int = 10, *, age_s: float = 0.0) -> Saved:
    return Saved(position, {"counts": offset, "last": offset}, time.time() - age_s)


@asynccontextmanager
async def a_store(folder: Path, cluster: str = "a") -> AsyncIterator[RocksStore]:
    store = RocksStore(folder, cluster)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_what_was_kept_is_found_with_its_position_by_the_next_worker(tmp_path: Path) -> None:
    of = tables()
    async with a_store(tmp_path) as store:
        assert await store.find(SOURCE, of) is None
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1", "b": b"1"}, "last": {"ü/\0": b""}}, anew=True)
        store.begin(OTHER, of, saved(7), {"counts": {"a": b"other"}}, anew=True)
        store.save(SOURCE, 6, {"counts": {"a": b"2", "b": None, "c": b"1"}}, {"counts": 12})
    async with a_store(tmp_path) as store:
        found = await store.find(SOURCE, of)
        assert found is not None
        assert (found.position, found.changelogs) == (6, {"counts": 12, "last": 10})
        assert await store.rows(SOURCE, of) == {"counts": {"a": b"2", "c": b"1"}, "last": {"ü/\0": b""}}
        assert await store.rows(OTHER, of) == {"counts": {"a": b"other"}, "last": {}}


async def test_a_partition_that_begins_anew_leaves_nothing_of_its_earlier_rows(tmp_path: Path) -> None:
    of = tables()
    large = {f"{number}": bytes(1_000) for number in range(3 * STORE_BATCH_BYTES // 1_000)}  # takes several batches
    async with a_store(tmp_path) as store:
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
        store.begin(SOURCE, of, saved(9), {"last": large}, anew=True)
        assert await store.rows(SOURCE, of) == {"counts": {}, "last": large}


async def test_rows_of_another_format_or_of_other_tables_are_not_found(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        store.begin(SOURCE, tables(), saved(5), {"counts": {"a": b"1"}}, anew=True)
        assert await store.find(SOURCE, tables(row_format=2)) is None
        assert await store.find(SOURCE, tables()[:1]) is None
        assert await store.find(SOURCE, tables()) is not None


async def test_a_store_of_another_cluster_is_emptied(tmp_path: Path) -> None:
    of = tables()
    async with a_store(tmp_path, "a") as store:
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
    async with a_store(tmp_path, "b") as store:
        assert await store.find(SOURCE, of) is None
    async with a_store(tmp_path, "a") as store:
        assert await store.find(SOURCE, of) is None


async def test_a_commit_after_the_store_was_closed_changes_nothing(tmp_path: Path) -> None:
    of = tables()
    async with a_store(tmp_path) as store:
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
    store.save(SOURCE, 6, {"counts": {"a": b"2"}}, {})
    assert await store.find(SOURCE, of) is None
    await store.close()
    async with a_store(tmp_path) as store:
        found = await store.find(SOURCE, of)
        assert found is not None
        assert (found.position, (await store.rows(SOURCE, of) or {})["counts"]) == (5, {"a": b"1"})


async def test_a_broken_store_is_emptied(tmp_path: Path) -> None:
    of = tables()
    async with a_store(tmp_path) as store:
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
    for file in (tmp_path / "0" / "rows").iterdir():
        file.write_bytes(b"broken")
    async with a_store(tmp_path) as store:
        assert await store.find(SOURCE, of) is None
        store.begin(SOURCE, of, saved(6), {"counts": {"a": b"1"}}, anew=True)
        assert await store.find(SOURCE, of) is not None


async def test_workers_of_one_machine_take_folders_of_their_own(tmp_path: Path) -> None:
    of = tables()
    async with a_store(tmp_path) as first, a_store(tmp_path) as second:
        first.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
        assert await second.find(SOURCE, of) is None
    assert all((tmp_path / name / "rows").is_dir() for name in "01")


async def test_a_disk_that_fails_costs_the_store_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    of = tables()
    async with a_store(tmp_path / "state") as store:
        store.begin(SOURCE, of, saved(5), {"counts": {"a": b"1"}}, anew=True)
        await store.find(SOURCE, of)  # what was ordered before is done
        store.begin(SOURCE, of, saved(5), {}, anew=False)
        shutil.rmtree(tmp_path / "state")
        (tmp_path / "state").write_text("no folder any more")
        for position in range(6, 106):
            rows: Rows = {f"{number}": secrets.token_bytes(1_000) for number in range(400)}
            store.save(SOURCE, position, {"counts": rows}, {})
        assert await store.find(SOURCE, of) is None
        assert await store.rows(SOURCE, of) is None
        store.begin(SOURCE, of, saved(6), {}, anew=True)
    assert [record.message for record in caplog.records].count("state store dropped, going on from memory") == 1


async def test_a_folder_that_cannot_be_made_costs_the_store_only(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    async with a_store(tmp_path / "state") as store:
        store.begin(SOURCE, tables(), saved(5), {}, anew=True)
        assert await store.find(SOURCE, tables()) is None


def test_a_disk_that_hangs_keeps_no_process_from_ending(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    os.mkfifo(tmp_path / "0" / "lock")  # to open it for writing waits for a reader, for ever
    program = f"""
import asyncio
from pathlib import Path
from streams.engine.rocks_store import RocksStore

async def work():
    store = RocksStore(Path({str(tmp_path)!r}), "a")
    opening = asyncio.ensure_future(store.open())
    await asyncio.wait({{opening}}, timeout=0.2)
    await store.close()
    assert not opening.done()

asyncio.run(work())
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=STORE_CLOSE_SECONDS_MAX + 30, check=False)
    assert ended.returncode == 0


async def test_a_disk_that_is_too_slow_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with a_store(tmp_path) as store:
        store.begin(SOURCE, tables(), saved(5), {}, anew=True)
        value = bytes(STORE_QUEUE_BYTES_MAX // 2 + 1)
        for position in (6, 7, 8):
            store.save(SOURCE, position, {"counts": {"a": value}}, {})
        await store.find(SOURCE, tables())
    assert "state store dropped, going on from memory" in [record.message for record in caplog.records]


class RecordingStore(NoStore):
    """Keeps the positions it was given."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, dict[str, dict[str, bytes | None]]]] = []

    def save(self, source: Source, position: int, written: Written, changelogs: Mapping[str, int]) -> None:  # noqa: ARG002
        self.kept.append((position, {table: dict(rows) for table, rows in written.items()}))


@pytest.mark.parametrize("commits", [True, False])
async def test_only_what_is_committed_is_kept(*, commits: bool) -> None:
    table, store = ChangelogTable("totals", TOPIC, "app-totals-changelog"), RecordingStore()
    run = Run(adding(table), [b"[1]", b"[2]", b"[3]"], store=store)
    run.producer.fails = not commits
    await run.until(lambda: bool(run.producer.committed or run.failures))
    await run.session.close()
    assert store.kept == ([(3, {"totals": {"total": b"6"}})] if commits else [])


class Changelogs:
    """Stands where Kafka does: the changelogs of one partition, as lists of (key, value) from offset `start` on."""

    def __init__(self, of: Sequence[ChangelogTable], records: Mapping[str, list[tuple[str, bytes | None]]]) -> None:
        self._records = {table.name: records.get(table.name, []) for table in of}
        self.start = 0
        self.read: list[tuple[str, int | None]] = []

    async def covers(self, offsets: Mapping[Place, int]) -> bool:
        return all(self.start <= at <= len(self._records[table.name]) for (table, _), at in offsets.items())

    async def changes(self, wanted: Mapping[Place, int | None]) -> dict[Place, Changes]:
        self.read += sorted((table.name, start) for (table, _), start in wanted.items())
        return {
            place: Changes(dict(self._records[place[0].name][start or 0 :]), len(self._records[place[0].name]))
            for place, start in wanted.items()
        }


# Positions here are offsets too: each record of the source writes one record to each changelog.
RECORDS: dict[str, list[tuple[str, bytes | None]]] = {
    "counts": [("a", b"1"), ("b", b"1"), ("a", b"2"), ("b", None), ("c", b"1")],
    "last": [("x", b"1"), ("x", b"2"), ("x", b"3"), ("y", b"1"), ("x", None)],
}
EXPECTED = {"counts": {"a": b"2", "c": b"1"}, "last": {"y": b"1"}}


def rows_at(position: int) -> dict[str, Rows]:
    return {
        name: {key: value for key, value in dict(records[:position]).items() if value is not None}
        for name, records in RECORDS.items()
    }


async def restored(store: Store, changelogs: Changelogs, of: list[ChangelogTable], *, committed: bool = True) -> None:
    positions = {SOURCE: Position(5, committed)}
    await restore(changelogs, store, positions, {"words": of})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "age_s", "start", "read"),
    [
        (5, 0.0, 0, []),
        (5, 10 * STORE_AGE_SECONDS_MAX, 0, []),
        (3, 0.0, 0, [("counts", 3), ("last", 3)]),
        (3, 0.0, 3, [("counts", 3), ("last", 3)]),
        (3, 0.0, 4, [("counts", None), ("last", None)]),
        (3, STORE_AGE_SECONDS_MAX + 1, 0, [("counts", None), ("last", None)]),
        (3, -60.0, 0, [("counts", None), ("last", None)]),
        (6, 0.0, 0, [("counts", None), ("last", None)]),
        (None, 0.0, 0, [("counts", None), ("last", None)]),
    ],
    ids=[
        "at the position", "old, at the position", "behind", "behind, just covered", "behind, deleted meanwhile",
        "behind, too old", "saved in the future", "ahead", "nothing there",
    ],
)  # fmt: skip
async def test_a_restore_gives_the_same_rows_whatever_the_store_holds(
    tmp_path: Path, position: int | None, age_s: float, start: int, read: list[tuple[str, int | None]]
) -> None:
    of = tables()
    async with a_store(tmp_path) as store:
        if position is not None:
            kept = rows_at(position) | ({"counts": {"wrong": b"9"}} if position > 5 else {})
            store.begin(SOURCE, of, saved(position, min(position, 5), age_s=age_s), kept, anew=True)
        changelogs = Changelogs(of, RECORDS)
        changelogs.start = start
        await restored(store, changelogs, of)
        assert changelogs.read == read
        assert {table.name: table.rows(3) for table in of} == EXPECTED
        # What was restored is what the store has now, and the next restore reads nothing.
        store.save(SOURCE, 5, {}, {})
        again = tables()
        changelogs.read.clear()
        await restored(store, changelogs, again)
        assert changelogs.read == []
        assert {table.name: table.rows(3) for table in again} == EXPECTED


@pytest.mark.parametrize("kept", [False, True])
async def test_rows_without_a_committed_position_are_refused_though_the_store_has_one(
    tmp_path: Path, *, kept: bool
) -> None:
    of = tables()
    async with a_store(tmp_path) as store:
        if kept:
            store.begin(SOURCE, of, saved(5, 5), rows_at(5), anew=True)
        with pytest.raises(StateIncompatible, match="applied twice"):
            await restored(store, Changelogs(of, RECORDS), of, committed=False)


async def test_without_a_store_everything_comes_from_the_changelogs() -> None:
    of = tables()
    await restored(NoStore(), Changelogs(of, RECORDS), of)
    assert {table.name: table.rows(3) for table in of} == EXPECTED
