"""One source partition between the fence and the next doubt.

A session is one task that does, in order, everything its partition needs: wait for records, run the
stage's handler on a unit of them, publish, commit. Nothing else touches its producer, so there is
nothing to lock.

A unit that fails is undone, and run again in halves until the record at fault stands alone; that one
is dead-lettered in the same transaction, the others take effect. Halves are units themselves, so
a handler must not depend on how records were cut into units. When a *service* fails, the unit is
undone too, but the partition is held: what is done is committed, and the unit is tried again later.
The consumer stays in its group meanwhile; it only stops fetching this partition when enough waits.
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

from schemas.errors import SchemaUnavailable, ServiceError, ServiceRateLimited, SettingsInvalid, StateIncompatible
from streams.engine.dead_letter import DeadLetters, message
from streams.engine.exactly_once.inbox import Batch, Inbox
from streams.engine.exactly_once.ledger import Ledger
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.exactly_once.unit import HandlerMisuse, UnitOfWork, current_unit
from streams.engine.limits import CLOSE_SECONDS_MAX, HOLD_SECONDS_MAX, HOLD_SECONDS_MIN
from streams.engine.ports import Handler, Observer, Record
from streams.engine.tables import View

log = logging.getLogger(__name__)


class HandlerInterrupted(Exception):
    """A handler was cancelled, and not by its session."""


# The record is not to blame for these, and trying again will not help: the worker stops and says why.
FATAL = (StateIncompatible, SettingsInvalid, HandlerMisuse)
# The record is not to blame for these either, but a later attempt can succeed.
HELD = (ServiceError, SchemaUnavailable, HandlerInterrupted)


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
    unit_records_max: int
    unit_wait_s: float
    commit_interval_s: float
    dead_letters: DeadLetters
    observer: Observer


class Session:
    """Works on one source partition from `position` on, until it is closed or in doubt."""

    def __init__(
        self,
        stage: Stage,
        partition: int,
        position: int,
        producer: TransactionalProducer,
        view: View,
        around: Surroundings,
        on_failure: Callable[[Session, Exception], None],
    ) -> None:
        self.place = f"{stage.name} {stage.topic}-{partition}"
        self.stage = stage
        self.held_reason = ""
        self.clean = True  # the tables hold exactly the state at `position`, and it is committed
        self._partition = partition
        self._producer = producer
        self._view = view
        self._around = around
        self._on_failure = on_failure
        self._inbox = Inbox(position, around.unit_records_max)
        self._ledger = Ledger(
            producer,
            (stage.topic, partition),
            around.group,
            position,
            around.unit_wait_s,
            around.commit_interval_s,
            around.observer,
        )
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"session {self.place}")

    @property
    def position(self) -> int:
        """Position after the last completed unit."""
        return self._ledger.position

    @property
    def working(self) -> bool:
        return not (self._task.done() or self._closing.done())

    @property
    def hungry(self) -> bool:
        """Whether to fetch for it."""
        return self.working and not self._inbox.full

    def push(self, batch: Batch) -> None:
        """Take the next batch of the partition; one that does not join is a doubt."""
        try:
            self._inbox.push(batch)
        except Exception as error:  # noqa: BLE001  a gap, and whatever else
            self._closing.set_result(None)
            self._inbox.wake()
            self._doubt(error)

    async def close(self) -> None:
        """Undo the unit under way, commit the whole ones, let go. Afterwards `clean` tells the state."""
        if not self._closing.done():
            self._closing.set_result(None)
        self._inbox.wake()
        _, late = await asyncio.wait({self._task}, timeout=CLOSE_SECONDS_MAX)
        if late:
            log.warning("session does not close in time", extra={"place": self.place})
            self.clean = False
            self._task.cancel()
            await asyncio.wait(late, timeout=1.0)
        await self._producer.stop()

    async def _run(self) -> None:
        try:
            while not self._closing.done():
                due_in_s = self._ledger.due_in_s
                if due_in_s is not None and (due_in_s <= 0 or not self._inbox.has_full_unit):
                    await self._ledger.commit()
                    continue
                await self._inbox.wait_any()
                if not self._inbox.has_full_unit:
                    await self._inbox.wait_full(self._ledger.rest_s)
                if not (self._inbox.empty or self._closing.done()):
                    await self._process(*self._inbox.take())
            await self._ledger.commit()
        except asyncio.CancelledError:
            self.clean = False
            self._view.changed(self._partition)
            raise
        except Exception as error:  # noqa: BLE001  whatever it is: doubt, so everything starts over
            self._doubt(error)

    def _doubt(self, error: Exception) -> None:
        self.clean = False
        self._view.changed(self._partition)
        self._on_failure(self, error)

    async def _process(self, records: Sequence[Record], end: int) -> None:
        """Apply records up to position `end`, in one unit or, where one fails, in several."""
        parts = deque([records])
        attempts = 0
        while parts and not self._closing.done():
            part = parts.popleft()
            position = parts[0][0].offset if parts else end
            unit = self._unit(part)
            error = await self._attempt(unit)
            if error is None:
                await self._ledger.publish(unit, position)
            elif self._closing.done():
                return
            elif isinstance(error, FATAL):
                raise error
            elif isinstance(error, HELD):
                parts.appendleft(part)
                await self._hold(error, attempts)
                attempts += 1
                continue
            elif len(part) == 1:
                await self._refuse(part[0], error, position)
            else:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))
            attempts = 0
            self.held_reason = ""

    def _unit(self, records: Sequence[Record]) -> UnitOfWork:
        return UnitOfWork(self.stage.topic, self._partition, records, self._around.dead_letters)

    async def _attempt(self, unit: UnitOfWork) -> Exception | None:
        """Run the handler; return its error, with everything it did undone."""
        context = contextvars.copy_context()
        context.run(current_unit.set, unit)
        started_at = time.monotonic()
        handling = asyncio.create_task(_call(self.stage.handler, unit), context=context)
        try:
            await self._wait_committing(handling)
            if not handling.done():
                handling.cancel()
                await asyncio.wait({handling})
        except BaseException:  # of this session, not of the handler: nothing to tell apart, all is in doubt
            handling.cancel()
            unit.undo()
            raise
        error = _error_of(handling)
        if error is None:
            self._around.observer.unit_done(self.stage.name, len(unit.records), time.monotonic() - started_at)
            return None
        unit.undo()
        # Whatever the handler wrote: it may have changed something it keeps beside its rows.
        self._view.changed(self._partition)
        return error

    async def _wait_committing(self, handling: asyncio.Task[None]) -> None:
        """Wait for the handler or for the end of the session; commit the units before this one meanwhile."""
        while not handling.done() and not self._closing.done():
            done, _ = await asyncio.wait(
                {handling, self._closing}, timeout=self._ledger.due_in_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await self._ledger.commit()

    async def _refuse(self, record: Record, error: Exception, position: int) -> None:
        """Dead-letter one record in a unit of its own."""
        kind = type(error).__name__
        log.warning(
            "record dead-lettered",
            extra={"place": self.place, "offset": record.offset, "error": kind, "cause": message(error)},
        )
        unit = self._unit([record])
        unit.dead_letter(record, error, stage=self.stage.name)
        await self._ledger.publish(unit, position)

    async def _hold(self, error: Exception, attempts: int) -> None:
        """Wait before the next attempt, the partition safe where it stands."""
        await self._ledger.commit()
        kind = type(error).__name__
        self.held_reason = f"{kind}: {error}"
        self._around.observer.failed(self.stage.name, kind)
        pause_s = min(HOLD_SECONDS_MAX, HOLD_SECONDS_MIN * 2 ** min(attempts, 20))
        if isinstance(error, ServiceRateLimited) and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        pause_s *= random.uniform(0.5, 1.5)  # noqa: S311  jitter, so that held partitions do not knock in step
        log.warning(
            "partition held",
            extra={"place": self.place, "reason": self.held_reason, "retry_s": round(pause_s, 2)},
        )
        await asyncio.wait({self._closing}, timeout=pause_s)


async def _call(handler: Handler, unit: UnitOfWork) -> None:
    await handler(unit)


def _error_of(handling: asyncio.Task[None]) -> Exception | None:
    if handling.cancelled():
        return HandlerInterrupted("the handler was cancelled from within")
    error = handling.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error
