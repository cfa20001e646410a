"""The Faust app under the engine: which of its parts are used, and how they are set.

Faust's own `processing_guarantee` stays at least once: its transactions are chosen by the partition
that is written to, and lost or doubled records in every kill test. `exactly_once/` replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
from faust import tables as faust_tables

from streams.engine.exactly_once.sessions import Sessions
from streams.engine.exactly_once.stage import Stage
from streams.engine.exactly_once.transport import Transport
from streams.engine.settings import EngineSettings
from streams.engine.tables import ChangelogTable, declare

HEARTBEATS_PER_SESSION = 4  # missed before the group takes a worker for dead; at least
# A worker hears of a rebalance only by its next heartbeat, and the group stands still until the last one has heard.
HEARTBEAT_SECONDS_MAX = 0.5
REBALANCE_SECONDS = 60.0  # for every worker of the group to let go of its partitions
REQUEST_SECONDS = 40.0


class TableManager(faust_tables.TableManager):
    """Faust's, without the second in which it waits for tables that are declared late: here none is."""

    async def on_start(self) -> None:
        """Register the tables; the consumer subscribes once they are."""
        await self._update_channels()
        await self.recovery.start()


class EngineApp(faust.App):
    """A Faust app whose clients all connect the same way and whose records go to sessions."""

    connection: Mapping[str, Any]
    sessions: Sessions

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Rows live in memory and changelogs; nothing is kept in files."""


def build(
    settings: EngineSettings,
    partitions: int,
    connection: Mapping[str, Any],
    stages: Sequence[Stage],
    tables: Sequence[ChangelogTable],
    sessions: Sessions,
) -> EngineApp:
    """Return the app with an agent for each stage and its tables; inside the loop that will run it."""
    app = EngineApp(
        settings.app_id,
        broker=[f"kafka://{server}" for server in str(connection["bootstrap_servers"]).split(",")],
        datadir=Path.cwd(),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.group_instance_id or None,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS_MAX, settings.session_timeout_s / HEARTBEATS_PER_SESSION),
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_request_timeout=max(REQUEST_SECONDS, settings.session_timeout_s + 1),
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        TableManager=TableManager,
    )
    app.boot_strategy.enable_web = False
    app.connection = connection
    app.sessions = sessions
    for table in tables:
        declare(app, table, partitions)
    for stage in stages:
        _attach(app, stage)
    return app


def _attach(app: EngineApp, stage: Stage) -> None:
    topic = app.topic(stage.topic, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, name=stage.name)
    async def agent(stream: Any) -> None:
        """Hand each batch to the session of its partition, which runs the stage's handler."""
        async for event in stream.noack().events():
            app.sessions.deliver(event.message.batch)
