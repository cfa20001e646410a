"""A store in a RocksDB database.

Rules
  * Any error (a full disk, a broken file, another program's folder) drops the store with a log line, and the work
    goes on from memory. What is in doubt is deleted, never mended.
  * One thread does everything to the database, in the order it was asked. Saving waits for nobody; a disk that
    falls behind by more than `STORE_QUEUE_BYTES_MAX` loses the store, not the worker. A disk that hangs keeps no
    process from ending: nobody waits for the thread.
  * Each worker of a machine takes the first numbered folder that no other one holds.
  * Nothing is synced: after a power cut the store may be older than it was, which is like any other delay.

    cluster                              the Kafka cluster all positions are of, with the ids of its topics
    <owner>/<partition> 00 00            position, changelog offsets, formats of rows; written last
    <owner>/<partition> 00 <table> 00 <key>   a row
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import orjson
from rocksdict import DBCompressionType, Options, Rdict, ReadOptions, WriteBatch

from streams.engine.limits import (
    STORE_BATCH_BYTES,
    STORE_CLOSE_SECONDS_MAX,
    STORE_FOLDERS_MAX,
    STORE_OPEN_FILES_MAX,
    STORE_QUEUE_BYTES_MAX,
    STORE_WRITE_BUFFER_BYTES,
)
from streams.engine.store import Saved, Source, Written
from streams.engine.tables import ChangelogTable, Rows

log = logging.getLogger(__name__)

LAYOUT = 1  # of what this file writes
CLUSTER = b"cluster"

Answer = TypeVar("Answer")
Changes = list[tuple[str, list[tuple[str, bytes | None]]]]  # (table, (key, value))


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is kept of a partition beside its rows."""

    saved: Saved
    formats: Mapping[str, int]  # of rows, by table


class RocksStore:
    """Implements `Store` under `folder`. `cluster` tells the topics that the positions are of from all others."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self._base = folder
        self._cluster = cluster
        self._thread = _OneThread("state store")
        self._database: Any = None
        self._lock_file: Any = None
        self._dropped = False
        self._closed = False
        self._begun: dict[Source, _Entry] = {}  # the newest that was ordered to be kept
        self._waiting_bytes = 0
        self._counting = threading.Lock()

    async def open(self) -> None:
        """Take a folder, emptied where what it holds cannot be used."""
        await self._ask(self._open, None)

    async def find(self, source: Source, tables: Sequence[ChangelogTable]) -> Saved | None:
        """Return what there is of a partition; None unless it is of just these tables, in their formats."""
        self._begun.pop(source, None)
        found = await self._ask(lambda: self._read_entry(source), None)
        return found.saved if found is not None and found.formats == _formats(tables) else None

    async def rows(self, source: Source, tables: Sequence[ChangelogTable]) -> dict[str, Rows] | None:
        """Return the rows of a partition by table; None when they cannot be read."""
        return await self._ask(lambda: {table.name: self._read_rows(source, table.name) for table in tables}, None)

    def begin(
        self, source: Source, tables: Sequence[ChangelogTable], saved: Saved, written: Written, *, anew: bool
    ) -> None:
        """Keep a restored partition: add what changed to what there is, or put it in its place (`anew`)."""
        entry = self._begun[source] = _Entry(saved, _formats(tables))
        changes = _listed(written)
        self._order(lambda: self._write(source, entry, changes, anew=anew), 0)

    def save(self, source: Source, position: int, written: Written, changelogs: Mapping[str, int]) -> None:
        """Keep what a commit changed of a partition that was begun."""
        before = self._begun.get(source)
        if before is None or self._dropped:
            return
        newest = {**before.saved.changelogs, **changelogs}
        entry = self._begun[source] = replace(before, saved=Saved(position, newest, time.time()))
        changes = _listed(written)
        size = sum(len(key) + len(value or b"") for _, rows in changes for key, value in rows)
        self._order(lambda: self._write(source, entry, changes, anew=False), size)

    async def close(self) -> None:
        """Write what waits, and let go of the folder; what is asked for afterwards is not done."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        _, late = await asyncio.wait({closing}, timeout=STORE_CLOSE_SECONDS_MAX)
        if late:
            log.warning("state store does not close in time", extra={"folder": str(self._base)})
        self._thread.shutdown(wait=not late)

    # -- asking the thread

    async def _ask(self, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Return the answer of the thread, which works through what was asked before first."""
        if self._closed:  # a session may still commit while its worker stops
            return otherwise
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._safely, action, otherwise)

    def _order(self, action: Callable[[], None], size: int) -> None:
        if self._closed:
            return
        with self._counting:
            self._waiting_bytes += size
            behind = self._waiting_bytes > STORE_QUEUE_BYTES_MAX

        def work() -> None:
            with self._counting:
                self._waiting_bytes -= size
            if behind:
                self._drop(f"more than {STORE_QUEUE_BYTES_MAX} bytes wait to be written")
            self._safely(action, None)

        if not self._dropped:
            self._thread.submit(work)

    # -- in the thread

    def _safely(self, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        if self._dropped:
            return otherwise
        try:
            return action()
        except Exception as error:  # noqa: BLE001  whatever it is: the work does not depend on the store
            self._drop(repr(error))
            return otherwise

    def _drop(self, reason: str) -> None:
        if not self._dropped:
            log.error("state store dropped, going on from memory", extra={"folder": str(self._base), "reason": reason})
        self._dropped = True
        folder = None if self._database is None else Path(self._database.path())
        self._close_database()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._close()  # last: whoever holds the lock next must not lose its files to this

    def _open(self) -> None:
        folder = self._take_folder()
        try:
            self._database = _opened(folder)
            fits = self._database.get(CLUSTER) in (None, self._cluster.encode())
        except Exception as error:  # noqa: BLE001  broken, or of another program: what it was does not matter
            log.warning("state store cannot be read", extra={"folder": str(folder), "error": repr(error)})
            fits = False
        if not fits:
            self._close_database()
            shutil.rmtree(folder)
            self._database = _opened(folder)
        self._database.put(CLUSTER, self._cluster.encode())
        log.info("state store open", extra={"folder": str(folder), "rebuilt": not fits})

    def _take_folder(self) -> Path:
        for number in range(STORE_FOLDERS_MAX):
            place = self._base / str(number)
            place.mkdir(parents=True, exist_ok=True)
            lock_file = (place / "lock").open("w")
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock_file.close()
                continue
            self._lock_file = lock_file  # held as long as it is open, and let go by the system whatever happens
            return place / "rows"
        raise OSError(f"all {STORE_FOLDERS_MAX} folders are held by other workers")

    def _read_entry(self, source: Source) -> _Entry | None:
        found = self._database.get(_scope(source) + b"\0")
        if found is None:
            return None
        layout, formats, position, changelogs, saved_at_s = orjson.loads(found)
        return _Entry(Saved(position, changelogs, saved_at_s), formats) if layout == LAYOUT else None

    def _read_rows(self, source: Source, table: str) -> Rows:
        prefix = _prefix(source, table)
        bounded = ReadOptions()
        bounded.set_iterate_upper_bound(prefix[:-1] + b"\x01")
        start = len(prefix)
        items = self._database.items(from_key=prefix, read_opt=bounded)
        return {key[start:].decode("utf-8", "surrogatepass"): value for key, value in items}

    def _write(self, source: Source, entry: _Entry, changes: Changes, *, anew: bool) -> None:
        batch = WriteBatch(raw_mode=True)
        if anew:
            scope = _scope(source)
            self._database.delete_range(scope, scope[:-1] + b"\x01")
        for table, rows in changes:
            prefix = _prefix(source, table)
            for key, value in rows:
                name = prefix + key.encode("utf-8", "surrogatepass")
                if value is None:
                    batch.delete(name)
                else:
                    batch.put(name, value)
                # Without its entry a partition is not there, so a new one may be written in several batches.
                if anew and batch.size_in_bytes() > STORE_BATCH_BYTES:
                    self._database.write(batch)
                    batch = WriteBatch(raw_mode=True)
        saved = entry.saved
        said = [LAYOUT, entry.formats, saved.position, saved.changelogs, saved.saved_at_s]
        batch.put(_scope(source) + b"\0", orjson.dumps(said))
        self._database.write(batch)

    def _close(self) -> None:
        self._close_database()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):  # it is done with, and whatever it says, its files are looked at anew
                database.close()


class _OneThread(Executor):
    """Does what it is given, one after the other, in a daemon thread; the end of the process waits for others."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, action: Callable[..., Answer], /, *args: Any, **named: Any) -> Future[Answer]:
        asked: Future[Answer] = Future()

        def work() -> None:
            if not asked.set_running_or_notify_cancel():
                return
            try:
                asked.set_result(action(*args, **named))
            except BaseException as error:  # noqa: BLE001  whoever asked learns of it
                asked.set_exception(error)

        self._work.put(work)
        return asked

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  as the library has it
        self._work.put(None)
        if wait:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _opened(folder: Path) -> Any:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(STORE_WRITE_BUFFER_BYTES)
    options.set_max_open_files(STORE_OPEN_FILES_MAX)
    options.set_keep_log_file_num(2)
    return Rdict(str(folder), options)


def _scope(source: Source) -> bytes:
    return f"{source[0]}/{source[1]}".encode() + b"\0"


def _prefix(source: Source, table: str) -> bytes:
    return _scope(source) + table.encode() + b"\0"


def _formats(tables: Sequence[ChangelogTable]) -> dict[str, int]:
    return {table.name: table.row_format for table in tables}


def _listed(written: Written) -> Changes:
    """Return the changes as they are now: units go on changing tables while they are written."""
    return [(table, list(rows.items())) for table, rows in written.items()]
