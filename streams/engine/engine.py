"""The engine: stages over topics, tables with changelogs, exactly once. Knows no app.

    engine = Engine(settings, bootstrap_servers, dead_letters="dead-letters")
    counts = engine.table("counts", owner="words")
    engine.stage("counting", "words", count)      # async def count(unit: Unit) -> None
    engine.run()                                  # until SIGTERM or SIGINT

Declaring does nothing yet; clients, tasks and the Faust app are made when it runs. Topics, changelogs
included (`changelog_topics`), exist before: a worker that makes topics makes them with
whatever defaults it meets, and a topic that appears late is assigned late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from aiokafka.admin import AIOKafkaAdminClient

from connectors.kafka.client import aiokafka_configuration
from schemas.errors import SettingsInvalid
from streams.engine import app as faust_app
from streams.engine.dead_letter import DeadLetters
from streams.engine.exactly_once.session import Stage, Surroundings
from streams.engine.exactly_once.sessions import Sessions
from streams.engine.limits import CHANGELOG_CONFIG, EXIT_CODE_STUCK, STOP_SECONDS_MAX
from streams.engine.ports import Handler, NullObserver, Observer, StateView, Table
from streams.engine.settings import Settings
from streams.engine.tables import ChangelogTable, ChangelogTopic, View

log = logging.getLogger(__name__)


class Engine:
    """Declares stages and tables, then runs them."""

    def __init__(
        self,
        settings: Settings,
        bootstrap_servers: str,
        *,
        dead_letters: str = "dead-letters",
        observer: Observer | None = None,
    ) -> None:
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
        self._settings = settings.engine
        self._partitions = kafka.partitions
        self._connection = aiokafka_configuration(kafka)
        self._dead_letters = dead_letters
        self._observer = observer or NullObserver()
        self._stages: dict[str, Stage] = {}  # by topic
        self._tables: dict[str, ChangelogTable] = {}
        self._views: defaultdict[str, View] = defaultdict(View)  # by topic
        self._sessions: Sessions | None = None
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fatal: BaseException | None = None

    # -- declaring

    def stage(self, name: str, source_topic: str, handler: Handler) -> None:
        """Run `handler` on every unit of a topic. One stage a topic: its offsets have one owner."""
        if source_topic in self._stages or any(stage.name == name for stage in self._stages.values()):
            raise ValueError(f"stage {name} on {source_topic}: the name or the topic is taken")
        self._stages[source_topic] = Stage(name, source_topic, handler)

    def table(self, name: str, *, owner: str) -> Table:
        """Return a table that the stage of topic `owner` writes."""
        if name in self._tables:
            raise ValueError(f"a table named {name} exists already")
        table = self._tables[name] = ChangelogTable(name, owner, f"{self._settings.app_id}-{name}-changelog")
        return table

    def views(self, topic: str) -> StateView:
        """Return what tells when caches made from the tables of a topic are stale."""
        return self._views[topic]

    def changelog_topics(self) -> list[ChangelogTopic]:
        """Return the topics of the tables, to be created like any other."""
        return [ChangelogTopic(table.changelog, self._partitions, CHANGELOG_CONFIG) for table in self._tables.values()]

    # -- running

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; return when whole units are committed and the group is left.

        Raises:
            SettingsInvalid: a topic is missing or has another number of partitions.
            StateIncompatible: state and offsets do not belong together.
            SystemExit: the app crashed.
        """
        asyncio.run(self._run())

    def stop(self) -> None:
        """Let `run` return. May be called from any thread."""
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile: stopped already
                self._loop.call_soon_threadsafe(self._stopping.set)

    def reasons(self) -> Mapping[str, str]:
        """Return why work does not move, by place; empty = it moves. May be called from any thread."""
        if self._sessions is None:
            return {"engine": "not started"}
        return self._sessions.reasons()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the context is open; leaving it stops as `run` does."""
        for table in self._tables.values():
            if table.owner not in self._stages:
                raise SettingsInvalid(
                    f"starting the engine: table {table.name} belongs to {table.owner}, which no stage reads"
                )
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        dead_letters = DeadLetters(self._dead_letters, await self._check_topics())
        sessions = self._sessions = self._new_sessions(dead_letters)
        tables = list(self._tables.values())
        app = faust_app.build(
            self._settings, self._partitions, self._connection, list(self._stages.values()), tables, sessions
        )
        watch = asyncio.create_task(sessions.watch(), name="watch sessions")
        crash = asyncio.create_task(self._stop_with(app), name="watch app")
        guard = threading.Timer(STOP_SECONDS_MAX, os._exit, (EXIT_CODE_STUCK,))
        guard.daemon = True
        try:
            await app.start()
            yield
        finally:
            guard.start()  # Faust waits for ever for a consumer thread that died
            watch.cancel()
            crash.cancel()
            await app.stop()
            guard.cancel()
            self._sessions = None

    async def _run(self) -> None:
        async with self.running():
            assert self._loop is not None
            assert self._stopping is not None
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stopping.set)
            await self._stopping.wait()
        if self._fatal is not None:
            raise self._fatal

    async def _stop_with(self, app: faust_app.EngineApp) -> None:
        await app.wait_until_stopped()  # also when it crashed
        if app.crashed:
            log.critical("the Faust app crashed", extra={"error": repr(app.crash_reason)})
            self._fail(SystemExit(EXIT_CODE_STUCK))

    def _fail(self, error: BaseException) -> None:
        """Stop the worker, and let `run` raise."""
        self._fatal = self._fatal or error
        if self._stopping is not None:
            self._stopping.set()

    def _new_sessions(self, dead_letters: DeadLetters) -> Sessions:
        sessions: Sessions
        around = Surroundings(
            group=self._settings.app_id,
            commit_interval_s=self._settings.commit_interval_ms / 1000,
            unit_wait_s=self._settings.unit_wait_ms / 1000,
            dead_letters=dead_letters,
            observer=self._observer,
            on_failure=lambda session, error: sessions.failed(session, error),
        )
        sessions = Sessions(
            self._stages,
            list(self._tables.values()),
            self._views,
            around,
            self._connection,
            self._settings.unit_records_max,
            self._fail,
        )
        return sessions

    async def _check_topics(self) -> int:
        """Return the number of partitions of the dead letters.

        Raises:
            SettingsInvalid: names every topic that is missing or does not fit.
        """
        wanted = [*self._stages, *(table.changelog for table in self._tables.values())]
        admin = AIOKafkaAdminClient(**self._connection)
        await admin.start()
        try:
            described = await admin.describe_topics([*wanted, self._dead_letters])
        finally:
            await admin.close()
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
        problems = [
            f"{name} has {counts[name]} partitions, not {self._partitions}"
            if name in counts
            else f"{name} does not exist"
            for name in wanted
            if counts.get(name) != self._partitions
        ]
        if self._dead_letters not in counts:
            problems.append(f"{self._dead_letters} does not exist")
        if problems:
            raise SettingsInvalid(
                "checking the topics: " + "; ".join(problems),
                hint="create the topics first; changing a number of partitions is a migration",
            )
        return counts[self._dead_letters]
