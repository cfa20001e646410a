"""One source partition between the fence and the next doubt.

A session is one task that does, in order, everything its partition needs: wait for records, run the
stage's handler on a unit of them, publish, commit. Nothing else touches its producer, so there is
nothing to lock.

A unit that fails is undone, and run again in halves until the record at fault stands alone; that one
is dead-lettered in the same transaction, the others take effect. Halves are units themselves, so
a handler must not depend on how records were cut into units. When a *service* fails, the unit is
undone too, but the partition is held: what is done is committed, and the unit is tried again later.

Pacing. A commit follows each unit when traffic is light; under load several units share one. While a
handler takes its time, units that are done are committed beside it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.errors import SchemaUnavailable, ServiceError, ServiceRateLimited, SettingsInvalid, StateIncompatible
from streams.engine.dead_letter import DeadLetters
from streams.engine.exactly_once.inbox import Inbox
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import HandlerMisuse, Tally, UnitOfWork, current_unit
from streams.engine.limits import CLOSE_SECONDS_MAX, COMMIT_PAUSE_FACTOR, HOLD_SECONDS_MAX, HOLD_SECONDS_MIN
from streams.engine.ports import Handler, Observer, Record
from streams.engine.tables import View

log = logging.getLogger(__name__)

# The record is not to blame for these, and trying again will not help: the worker stops and says why.
FATAL = (StateIncompatible, SettingsInvalid, HandlerMisuse)
# The record is not to blame for these either, but a later attempt can succeed.
HELD = (ServiceError, SchemaUnavailable)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the records of one topic are for."""

    name: str
    topic: str
    handler: Handler


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session of a worker shares."""

    group: str
    commit_interval_s: float
    unit_wait_s: float
    dead_letters: DeadLetters
    observer: Observer
    on_failure: Callable[[Session, BaseException], None]


class Session:
    """Works on one source partition from `position` on, until it is closed or in doubt."""

    def __init__(
        self, stage: Stage, partition: int, producer: TransactionalProducer, view: View, around: Surroundings
    ) -> None:
        self.stage = stage
        self.partition = partition
        self.producer = producer
        self.held_reason = ""
        self.clean = False  # the tables hold exactly the state at `position`, and it is committed
        self.position = -1
        self.inbox: Inbox
        self._view = view
        self._around = around
        self._closing = asyncio.Event()
        self._closed: asyncio.Task[Literal[True]] | None = None  # done when closing begins
        self._task: asyncio.Task[None] | None = None
        # Of the units since the last commit.
        self._units_done = 0
        self._tallies: list[Tally] = []
        self._letters: list[tuple[str, str]] = []
        self._commit_due_at = 0.0
        self._commit_pause_s = 0.0
        self._committed_at = 0.0
        self._unit_started_at = 0.0

    @property
    def place(self) -> str:
        return f"{self.stage.name} {self.stage.topic}-{self.partition}"

    @property
    def working(self) -> bool:
        return self._task is not None and not self._task.done() and not self._closing.is_set()

    def start(self, position: int, unit_records_max: int) -> None:
        self.position = position
        self.inbox = Inbox(position, unit_records_max)
        self.clean = True
        self._closed = asyncio.create_task(self._closing.wait())
        self._task = asyncio.create_task(self._run(), name=f"session {self.place}")

    async def close(self) -> None:
        """Undo the unit under way, commit the whole ones, let go. Afterwards `clean` tells the state."""
        self._closing.set()
        if self._task is not None:
            self.inbox.wake()
            _, late = await asyncio.wait({self._task}, timeout=CLOSE_SECONDS_MAX)
            if late:
                log.warning("session does not close in time", extra={"place": self.place})
                self._task.cancel()
                await asyncio.wait(late, timeout=1.0)
                self.clean = False
        await self.producer.stop()

    async def _run(self) -> None:
        try:
            while not self._closing.is_set():
                if self._units_done and self._commit_wait_s() <= 0:
                    await self._commit()
                elif await self._records_wait():
                    await self._process(*self.inbox.take())
            await self._commit()
        except asyncio.CancelledError:
            self.clean = False
            raise
        except Exception as error:  # noqa: BLE001  whatever it is: doubt, so everything starts over
            self.clean = False
            self._view.changed(self.partition)
            self._around.on_failure(self, error)

    async def _records_wait(self) -> bool:
        """Wait for records, but no longer than until the next commit; return whether there are any."""
        timeout = self._commit_wait_s() if self._units_done else None
        try:
            async with asyncio.timeout(timeout):
                await self.inbox.wait()
                pause = self._unit_started_at + self._around.unit_wait_s - time.monotonic()
                if pause > 0 and not self.inbox.has_full_unit:
                    # Units in quick succession: a moment's patience makes fewer, fuller ones.
                    await asyncio.sleep(pause)
        except TimeoutError:
            return False
        return not self.inbox.empty and not self._closing.is_set()

    async def _process(self, records: list[Record], end: int) -> None:
        """Apply records up to position `end`, in one unit or, where one fails, in several."""
        parts: deque[Sequence[Record]] = deque([records])
        attempt = 0
        while parts and not self._closing.is_set():
            part = parts.popleft()
            unit = self._unit(part)
            error = await self._attempt(unit)
            after = parts[0][0].offset if parts else end
            if self._closing.is_set() and error is not None:
                return
            if error is None:
                await self._publish(unit, after)
            elif isinstance(error, FATAL):
                raise error
            elif isinstance(error, (*HELD, asyncio.CancelledError)):
                parts.appendleft(part)
                await self._hold(error, attempt)
                attempt += 1
                continue
            elif len(part) == 1:
                await self._refuse(part[0], error, after)
            else:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))
            attempt = 0
            self.held_reason = ""

    def _unit(self, records: Sequence[Record]) -> UnitOfWork:
        return UnitOfWork(self.stage.topic, self.partition, records, self._around.dead_letters)

    async def _attempt(self, unit: UnitOfWork) -> BaseException | None:
        """Run the handler; return its error, with everything it did undone."""
        context = contextvars.copy_context()
        context.run(current_unit.set, unit)
        started_at = self._unit_started_at = time.monotonic()
        handling = asyncio.create_task(_call(self.stage.handler, unit), context=context)
        try:
            await self._wait_committing(handling)
            if not handling.done():
                handling.cancel()
                await asyncio.wait({handling})
            error = asyncio.CancelledError() if handling.cancelled() else handling.exception()
        finally:
            handling.cancel()
        if error is None:
            self._around.observer.unit_done(self.stage.name, len(unit.records), time.monotonic() - started_at)
            return None
        if unit.undo():
            self._view.changed(self.partition)
        return error

    async def _wait_committing(self, handling: asyncio.Task[None]) -> None:
        """Wait for the handler or for the end of the session; commit the units before this one meanwhile."""
        assert self._closed is not None
        while not handling.done() and not self._closing.is_set():
            timeout = self._commit_wait_s() if self._units_done else None
            done, _ = await asyncio.wait({handling, self._closed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await self._commit()

    async def _publish(self, unit: UnitOfWork, position: int) -> None:
        outgoing = unit.outgoing()
        await self.producer.send(outgoing)
        unit.complete()
        self.position = position
        if not self._units_done:
            self._commit_due_at = self._committed_at + self._commit_pause_s
        self._units_done += 1
        self._tallies += unit.tallies
        self._letters += unit.letters
        for record in outgoing:
            self._around.observer.published(record.topic, record.size_bytes)

    def _commit_wait_s(self) -> float:
        return self._commit_due_at - time.monotonic()

    async def _commit(self) -> None:
        if not self._units_done:
            return
        started_at = time.monotonic()
        await self.producer.commit((self.stage.topic, self.partition), self.position, self._around.group)
        self._committed_at = time.monotonic()
        took = self._committed_at - started_at
        self._commit_pause_s = min(self._around.commit_interval_s, COMMIT_PAUSE_FACTOR * took)
        self._units_done = 0
        observer = self._around.observer
        for tally in self._tallies:
            observer.count(tally.name, tally.amount, tally.labels)
        for stage, kind in self._letters:
            observer.dead_lettered(stage, kind)
        self._tallies.clear()
        self._letters.clear()

    async def _refuse(self, record: Record, error: BaseException, position: int) -> None:
        """Dead-letter one record in a unit of its own."""
        assert isinstance(error, Exception)
        log.warning(
            "record dead-lettered",
            extra={"place": self.place, "offset": record.offset, "error": type(error).__name__},
        )
        unit = self._unit([record])
        unit.dead_letter(record, error, stage=self.stage.name)
        await self._publish(unit, position)

    async def _hold(self, error: BaseException, attempt: int) -> None:
        """Wait before the next attempt, the partition safe where it stands."""
        await self._commit()
        kind = type(error).__name__
        self.held_reason = f"{kind}: {error}"
        self._around.observer.failed(self.stage.name, kind)
        pause = min(HOLD_SECONDS_MAX, HOLD_SECONDS_MIN * 2 ** min(attempt, 20))
        if isinstance(error, ServiceRateLimited) and error.retry_after_s is not None:
            pause = max(pause, error.retry_after_s)
        pause *= random.uniform(0.5, 1.5)  # noqa: S311  jitter, so that held partitions do not knock in step
        log.warning("partition held", extra={"place": self.place, "reason": self.held_reason, "retry_s": pause})
        assert self._closed is not None
        await asyncio.wait({self._closed}, timeout=pause)


async def _call(handler: Handler, unit: UnitOfWork) -> None:
    await handler(unit)
