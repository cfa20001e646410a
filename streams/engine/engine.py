"""The engine: stages over topics, tables with changelogs, exactly once. Knows no app.

    engine = Engine(EngineSettings(app_id="words"), {"bootstrap_servers": "localhost:9092"}, partitions=8)
    counts = engine.table("counts", owner="words")
    engine.stage("counting", "words", count)      # async def count(unit: Unit) -> None
    engine.run()                                  # until SIGTERM or SIGINT

The connection holds what every aiokafka client is given. Declaring does nothing yet; clients, tasks
and the Faust app are made when it runs. Topics, changelogs included (`changelog_topics`), exist
before: a worker that makes topics makes them with whatever defaults it meets, and a topic that
appears late is assigned late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from schemas.errors import ServiceError, ServiceRefused, SettingsInvalid
from schemas.topics import Topic
from streams.engine import app as faust_app
from streams.engine import collector
from streams.engine.cluster import identity, partition_counts
from streams.engine.dead_letter import HEADER_PREFIX_DEFAULT, DeadLetters
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.sessions import Sessions
from streams.engine.exactly_once.stage import NewProducer, Stage, Surroundings
from streams.engine.health import Vitals
from streams.engine.limits import (
    EXIT_CODE_STUCK,
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_MIN,
    STOP_SECONDS_MAX,
)
from streams.engine.ports import Handler, NullObserver, Observer, Split, StateView, Table
from streams.engine.settings import EngineSettings
from streams.engine.store import NoStore, Store
from streams.engine.tables import ChangelogTable, View

log = logging.getLogger(__name__)


class Engine:
    """Declares stages and tables, then runs them."""

    def __init__(
        self,
        settings: EngineSettings,
        connection: Mapping[str, Any],
        *,
        partitions: int,
        state_folder: Path | None = None,
        dead_letters: str = "dead-letters",
        dead_letter_header_prefix: str = HEADER_PREFIX_DEFAULT,
        observer: Observer | None = None,
        new_producer: NewProducer = TransactionalProducer,
    ) -> None:
        """Declare an app whose sources and changelogs have `partitions` partitions each.

        Apps may share a `state_folder`, which only `store: rocksdb` needs: each has a folder of its own in it.
        """
        self._settings = settings
        self._state_folder = state_folder
        self._partitions = partitions
        self._connection = connection
        self._dead_letters = dead_letters
        self._header_prefix = dead_letter_header_prefix
        self._observer = observer or NullObserver()
        self._new_producer = new_producer
        self._stages: dict[str, Stage] = {}  # by topic
        self._tables: dict[str, ChangelogTable] = {}
        self._views: defaultdict[str, View] = defaultdict(View)  # by topic
        self._sessions: Sessions | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._fatal: BaseException | None = None
        self._waiting_for = "not started"
        self.vitals = Vitals(self.reasons)

    # -- declaring

    def stage(
        self,
        name: str,
        source_topic: str,
        handler: Handler,
        *,
        split: Split | None = None,
        unit_records_max: int | None = None,
    ) -> None:
        """Run `handler` on every unit of a topic. One stage a topic: its offsets have one owner.

        `split` cuts a record that carries several things, so that one of them at fault costs only itself.
        `unit_records_max` keeps the units of a slow handler smaller than those of other stages.
        """
        if source_topic in self._stages or any(stage.name == name for stage in self._stages.values()):
            raise ValueError(f"stage {name} on {source_topic}: the name or the topic is taken")
        self._stages[source_topic] = Stage(name, source_topic, handler, split, unit_records_max)

    def table(self, name: str, *, owner: str, row_format: int = 1) -> Table:
        """Return a table that the stage of topic `owner` writes.

        Raise `row_format` whenever rows written before could not be read: they are refused then.
        """
        if name in self._tables:
            raise ValueError(f"a table named {name} exists already")
        changelog = f"{self._settings.app_id}-{name}-changelog"
        table = self._tables[name] = ChangelogTable(name, owner, changelog, row_format)
        return table

    def views(self, topic: str) -> StateView:
        """Return what tells when caches made from the tables of a topic are stale."""
        return self._views[topic]

    def changelog_topics(self) -> list[Topic]:
        """Return the topics of the tables, to be created like any other."""
        return [
            Topic(table.changelog, "row key", "row: bytes", public=False, retention_ms=-1, compacted=True)
            for table in self._tables.values()
        ]

    # -- running

    def run(self, prepare: Callable[[], Awaitable[None]] | None = None) -> None:
        """Work until SIGTERM or SIGINT; return when whole units are committed and the group is left.

        While the broker is away at the start, wait for it. `prepare` runs once it is there, and again
        after a ServiceError: it may make the topics.

        Raises:
            SettingsInvalid: a topic is missing or has another number of partitions.
            StateIncompatible: state and offsets do not belong together.
            SystemExit: the app crashed.
        """
        collector.tame()  # the process is the engine's own here; `work` leaves its collector alone
        asyncio.run(self.work(prepare))

    async def work(self, prepare: Callable[[], Awaitable[None]] | None = None) -> None:
        """As `run`, in a loop that runs already (of the main thread: signals are handled there)."""
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with self.vitals.beating():
            await self._unless_stopped(self._await_services(prepare))
            if not self._stopping.is_set():
                async with self.running():
                    await self._stopping.wait()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Let `run` return. May be called from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile: stopped already
                self._loop.call_soon_threadsafe(self._stopping.set)

    def reasons(self) -> Mapping[str, str]:
        """Return why work does not move, by place; empty = it moves. May be called from any thread."""
        sessions = self._sessions
        return {"engine": self._waiting_for} if sessions is None else sessions.reasons()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the context is open; leaving it stops as `run` does."""
        self._loop = asyncio.get_running_loop()
        dead_letters = DeadLetters(self._dead_letters, await self._check_topics(), self._header_prefix)
        tables = list(self._tables.values())
        store = await self._open_store()
        sessions = self._sessions = self._new_sessions(dead_letters, tables, store)
        stages = list(self._stages.values())
        app = faust_app.build(self._settings, self._partitions, self._connection, stages, tables, sessions)
        watches = [
            asyncio.create_task(sessions.watch(), name="watch sessions"),
            asyncio.create_task(self._watch_app(app), name="watch app"),
        ]
        guard = threading.Timer(STOP_SECONDS_MAX, os._exit, (EXIT_CODE_STUCK,))
        guard.daemon = True
        try:
            await self._unless_stopped(app.start())
            yield
        finally:
            guard.start()  # Faust waits for ever for a consumer thread that died
            for watch in watches:
                watch.cancel()
            try:
                await app.stop()
            finally:
                await store.close()
            guard.cancel()
            self._sessions, self._waiting_for = None, "stopped"

    async def _await_services(self, prepare: Callable[[], Awaitable[None]] | None) -> None:
        """Return when the broker is there and everything is prepared."""
        pause_s = HOLD_SECONDS_MIN
        while True:
            try:
                await partition_counts(self._connection, [])  # fails fast, and can be cancelled
                if prepare is not None:
                    await prepare()
                await partition_counts(self._connection, self._topics)  # a broker that starts may not know them yet
            except ServiceRefused:
                raise
            except ServiceError as error:
                self._waiting_for = f"waiting to start: {error}"
                log.warning("waiting to start", extra={"reason": str(error), "retry_s": round(pause_s, 2)})
            else:
                self._waiting_for = "starting"
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311  workers must not knock in step
            pause_s = min(2 * pause_s, HOLD_SECONDS_MAX)

    async def _unless_stopped(self, work: Coroutine[Any, Any, Any]) -> None:
        """Await some work, or the wish to stop, whatever comes first."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()

    async def _watch_app(self, app: faust_app.EngineApp) -> None:
        await app.wait_until_stopped()  # also when it crashed
        if app.crashed:
            log.critical("the Faust app crashed", extra={"error": repr(app.crash_reason)})
            self._fail(SystemExit(EXIT_CODE_STUCK))

    def _fail(self, error: BaseException) -> None:
        """Stop the worker, and let `run` raise."""
        self._fatal = self._fatal or error
        self._stopping.set()

    @property
    def _topics(self) -> list[str]:
        """The topics that must have as many partitions as the engine."""
        return [*self._stages, *(table.changelog for table in self._tables.values())]

    async def _open_store(self) -> Store:
        if self._settings.store == "memory":
            return NoStore()
        if self._state_folder is None:
            raise SettingsInvalid("keeping state in RocksDB (engine.store): the engine was given no state_folder")
        try:
            from streams.engine.rocks_store import RocksStore  # noqa: PLC0415  a library that only this setting needs
        except ImportError as error:
            raise SettingsInvalid(
                f"keeping state in RocksDB (engine.store): {error}", hint="install the extra `rocksdb`, or use memory"
            ) from error
        # Positions mean something only in the topics they were noted for.
        lives = await identity(self._connection, self._topics)
        store = RocksStore(self._state_folder / self._settings.app_id, lives)
        await store.open()
        return store

    def _new_sessions(self, dead_letters: DeadLetters, tables: Sequence[ChangelogTable], store: Store) -> Sessions:
        around = Surroundings(
            group=self._settings.app_id,
            unit_records_max=self._settings.unit_records_max,
            unit_wait_s=self._settings.unit_wait_ms / 1000,
            commit_interval_s=self._settings.commit_interval_ms / 1000,
            dead_letters=dead_letters,
            observer=self._observer,
            store=store,
            new_producer=self._new_producer,
        )
        return Sessions(self._stages, tables, self._views, around, self._connection, self._fail)

    async def _check_topics(self) -> int:
        """Return the number of partitions of the dead letters.

        Raises:
            SettingsInvalid: names everything that is missing or does not fit.
        """
        wanted = self._topics
        counts = await partition_counts(self._connection, [*wanted, self._dead_letters])
        problems = [
            f"table {table.name} belongs to {table.owner}, which no stage reads"
            for table in self._tables.values()
            if table.owner not in self._stages
        ]
        problems += [
            f"{name} has {counts[name]} partitions, not {self._partitions}"
            for name in wanted
            if counts.get(name, self._partitions) != self._partitions
        ]
        problems += [f"{name} does not exist" for name in (*wanted, self._dead_letters) if name not in counts]
        if problems:
            raise SettingsInvalid(
                "starting the engine: " + "; ".join(problems),
                hint="create the topics first; changing a number of partitions is a migration",
            )
        return counts[self._dead_letters]
