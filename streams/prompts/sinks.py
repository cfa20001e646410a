"""The sinks of the app, put together: each with a consumer of its own, so that none waits for another.

Guarantee  Postgres: exactly once, rows and offsets in one transaction. Qdrant: at least once, repeats change nothing.
Failure    A sink whose service is away waits and tries again. One that cannot go on ends; when it is Postgres, or
           the only one, the others end with it, because a supervisor should see that. Qdrant alone is let go:
           search is missing then, but no row is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from connectors.kafka.admin import Admin
from connectors.kafka.client import aiokafka_configuration
from connectors.kafka.schema_lookup import SchemaLookup
from connectors.kafka.schema_topic import SchemaTopic
from connectors.postgres.sink import PostgresSink
from connectors.qdrant.points import Points
from connectors.qdrant.sink import QdrantSink
from schemas.topics import DEAD_LETTERS, ERROR_HEADER_PREFIX, PROMPTS_EMBEDDED
from streams.engine.dead_letter import DeadLetters
from streams.engine.ports import Record
from streams.engine.sink import Sink, SinkObserver, Store, first_record
from streams.engine.sink_clients import DeadLetterProducer, consumer
from streams.prompts import postgres_rows, qdrant_points
from streams.settings import Settings

log = logging.getLogger(__name__)

POSTGRES = "postgres"
QDRANT = "qdrant"
NAMES = (POSTGRES, QDRANT)
QDRANT_FOLDER = "qdrant"  # in the data folder, in local mode

Item = TypeVar("Item")


class Sinks:
    """The sinks of one process."""

    def __init__(
        self, settings: Settings, names: tuple[str, ...], *, observer: SinkObserver, skip_expired: bool = False
    ) -> None:
        self._settings = settings
        self._names = names
        self._observer = observer
        self._skip_expired = skip_expired
        self._running: dict[str, Sink[Any]] = {}
        self._ended: dict[str, str] = {}

    def reasons(self) -> Mapping[str, str]:
        """Return, by sink, why nothing moves at the moment; empty = all is well."""
        held = {name: sink.held_reason for name, sink in self._running.items() if sink.held_reason}
        return held | self._ended

    async def run(self, stop: asyncio.Event) -> None:
        """Carry records until `stop` is set, or until a sink that is needed cannot go on."""
        runners = {POSTGRES: self._postgres, QDRANT: self._qdrant}
        waiting = {asyncio.create_task(runners[name](stop), name=name) for name in self._names}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._look_at(task)
        finally:
            stop.set()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _look_at(self, task: asyncio.Task[None]) -> None:
        name = task.get_name()
        error = task.exception()
        if error is None:
            return
        if name == POSTGRES or len(self._names) == 1:
            raise error
        self._ended[name] = str(error)
        log.error("sink ended; the others go on", extra={"sink": name, "error": str(error)})

    async def _postgres(self, stop: asyncio.Event) -> None:
        store = PostgresSink(self._settings.postgres.dsn.get_secret_value())
        try:
            await self._carry(
                postgres_rows.TOPICS, postgres_rows.rows_of, store, lambda rows: rows.received_at_ms, stop
            )
        finally:
            await store.close()

    async def _qdrant(self, stop: asyncio.Event) -> None:
        async with consumer(aiokafka_configuration(self._settings.kafka)) as client:
            # The collection is named after the vectors that are there, whatever this process is configured for.
            record = await first_record(client, PROMPTS_EMBEDDED.name, self._partitions, stop)
        if record is None:
            return
        embedder, dimension = qdrant_points.space_of(record)
        qdrant = self._settings.qdrant
        store = QdrantSink(
            embedder,
            dimension,
            path=None if qdrant.url else self._settings.data_dir / QDRANT_FOLDER,
            url=qdrant.url,
            api_key=qdrant.api_key.get_secret_value(),
        )
        try:
            await self._carry(qdrant_points.TOPICS, qdrant_points.points_of, store, _received_at_ms, stop)
        finally:
            await store.close()

    async def _partitions(self, topics: Sequence[str]) -> dict[str, int]:
        states = await asyncio.to_thread(Admin(self._settings.kafka).states, topics)
        return {name: state.partitions for name, state in states.items()}

    async def _carry(
        self,
        topics: tuple[str, ...],
        decode: Callable[[Record], Item],
        store: Store[Item],
        received_at_ms: Callable[[Item], Iterable[int]],
        stop: asyncio.Event,
    ) -> None:
        configuration = aiokafka_configuration(self._settings.kafka)
        dead_letters = DeadLetterProducer(
            configuration, DeadLetters(DEAD_LETTERS.name, self._settings.kafka.partitions, ERROR_HEADER_PREFIX)
        )
        async with consumer(configuration) as client:
            sink = Sink(
                topics,
                decode,
                store,
                client,
                partitions=self._partitions,
                dead_letter=dead_letters.send,
                schemas=SchemaLookup(SchemaTopic(self._settings.kafka)),
                observer=self._observer,
                stop=stop,
                received_at_ms=received_at_ms,
                skip_expired=self._skip_expired,
            )
            self._running[store.name] = sink
            try:
                await sink.run()
            finally:
                await dead_letters.close()


def _received_at_ms(points: Points) -> list[int]:
    return [row.received_at_ms for row in points.vectors]
