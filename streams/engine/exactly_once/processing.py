"""Apply the records of one partition: run the handler, find what is at fault, hold, publish.

Whose fault is an error? Its type says:

    the program's (FATAL)     it is raised on, and the worker stops
    a service's (HELD)        what was done before is committed, and the same records are tried again later
    the records' (any other)  they are tried again in halves, until what is at fault stands alone

A record that carries several things, and fails alone, is cut into pieces where its stage can cut it, and
the search goes on among these. Halves of a unit are published one after the other. Pieces are not: the
position in the source knows whole records only, so the pieces that passed and the letters of those
that did not are gathered in one unit, and a commit that falls between two pieces holds none of them.

A handler must not depend on how records were cut, neither into units nor into pieces.

Intuition: the fuse box. The house is dark, so half of the circuits are switched off, then a quarter, until
one is found; every other lamp is lit again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from schemas.errors import SchemaUnavailable, ServiceError, ServiceRateLimited, SettingsInvalid, StateIncompatible
from streams.engine.dead_letter import message
from streams.engine.exactly_once.ledger import Ledger
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.exactly_once.unit import HandlerMisuse, UnitOfWork, current_unit
from streams.engine.limits import HOLD_SECONDS_MAX, RETRY_AFTER_SECONDS_MAX
from streams.engine.ports import Handler, Piece, Record
from streams.engine.tables import View

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class HandlerInterrupted(Exception):
    """A handler was cancelled, and not by its session."""


# The record is not to blame for these, and trying again will not help: the worker stops and says why.
FATAL = (StateIncompatible, SettingsInvalid, HandlerMisuse)
# The record is not to blame for these either, but a later attempt can succeed.
HELD = (ServiceError, SchemaUnavailable, HandlerInterrupted)


class _Closing(Exception):
    """The session closes: what is under way is undone."""


class Processing:
    """Applies records of one source partition, in order, until `closing` is done."""

    def __init__(
        self,
        stage: Stage,
        partition: int,
        ledger: Ledger,
        view: View,
        around: Surroundings,
        closing: asyncio.Future[None],
    ) -> None:
        self.held_reason = ""
        self._stage = stage
        self._partition = partition
        self._ledger = ledger
        self._view = view
        self._around = around
        self._closing = closing
        self._place = f"{stage.name} {stage.topic}-{partition}"

    async def apply(self, records: Sequence[Record], end: int) -> None:
        """Apply records up to position `end`, in one unit or, where one fails, in several."""
        parts = _Parts(records)
        try:
            while part := parts.take():
                unit, error = await self._tried(partial(self._unit, part))
                if error is not None:
                    if parts.halve(part):
                        continue
                    unit = await self._salvaged(part[0], error)
                following = parts.next_item()
                await self._ledger.publish(unit, end if following is None else following.offset)
        except _Closing:
            return

    def _unit(self, records: Sequence[Record]) -> UnitOfWork:
        return UnitOfWork(self._stage.topic, self._partition, records, self._around.dead_letters)

    async def _salvaged(self, record: Record, error: Exception) -> UnitOfWork:
        """Return a unit with what can be saved of a record that failed alone, and letters for the rest."""
        whole = self._unit([record])
        pieces = self._pieces(record)
        if not pieces:
            self._refuse(whole, record, error)
            return whole
        parts = _Parts(pieces)
        try:
            while part := parts.take():
                unit, piece_error = await self._tried(partial(whole.part, [piece.record for piece in part]))
                if piece_error is None:
                    whole.take(unit)
                elif not parts.halve(part):
                    self._refuse(whole, part[0].letter, piece_error)
                    for name, labels in part[0].counts:
                        whole.count(name, 1, **labels)
        except BaseException:
            self._undo(whole)
            raise
        return whole

    def _pieces(self, record: Record) -> Sequence[Piece]:
        """Return the pieces of a record; none where it cannot be cut."""
        if self._stage.split is None:
            return ()
        try:
            return self._stage.split(record)
        except Exception as error:  # noqa: BLE001  it is refused whole then, whatever is wrong with it
            log.warning("record cannot be cut", extra={"place": self._place, "error": type(error).__name__})
            return ()

    def _refuse(self, unit: UnitOfWork, record: Record, error: Exception) -> None:
        log.warning(
            "record dead-lettered",
            extra={
                "place": self._place,
                "topic": record.topic,
                "offset": record.offset,
                "error": type(error).__name__,
                "cause": message(error),
            },
        )
        unit.dead_letter(record, error, stage=self._stage.name)

    async def _tried(self, open_unit: Callable[[], UnitOfWork]) -> tuple[UnitOfWork, Exception | None]:
        """Run the handler, as often as a service fails; return the unit, undone where there is an error.

        Raises:
            _Closing: the session closes before it is done.
        """
        attempts = 0
        while not self._closing.done():
            unit = open_unit()
            error = await self._attempt(unit)
            if error is not None and self._closing.done():
                break
            if isinstance(error, FATAL):
                raise error
            if not isinstance(error, HELD):
                self.held_reason = ""
                return unit, error
            await self._hold(error, attempts)
            attempts += 1
        raise _Closing

    async def _attempt(self, unit: UnitOfWork) -> Exception | None:
        """Run the handler; return its error, with everything it did undone."""
        await self._around.turn.acquire()
        asyncio.get_running_loop().call_soon(self._around.turn.release)
        context = contextvars.copy_context()
        context.run(current_unit.set, unit)
        started_at = time.monotonic()
        handling = asyncio.create_task(_call(self._stage.handler, unit), context=context)
        try:
            await self._wait_committing(handling)
            if not handling.done():
                handling.cancel()
                await asyncio.wait({handling})
        except BaseException:  # of this session, not of the handler: nothing to tell apart, all is in doubt
            handling.cancel()
            self._undo(unit)
            raise
        error = _error_of(handling)
        if error is None:
            self._around.observer.unit_done(self._stage.name, len(unit.records), time.monotonic() - started_at)
        else:
            self._undo(unit)
        return error

    def _undo(self, unit: UnitOfWork) -> None:
        unit.undo()
        # Whatever the handler wrote: it may have changed something it keeps beside its rows.
        self._view.changed(self._partition)

    async def _wait_committing(self, handling: asyncio.Task[None]) -> None:
        """Wait for the handler or for the end of the session; commit the units before this one meanwhile."""
        while not handling.done() and not self._closing.done():
            done, _ = await asyncio.wait(
                {handling, self._closing}, timeout=self._ledger.due_in_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await self._ledger.commit()

    async def _hold(self, error: Exception, attempts: int) -> None:
        """Wait before the next attempt, the partition safe where it stands."""
        await self._ledger.commit()
        kind = type(error).__name__
        self.held_reason = f"{kind}: {error}"
        self._around.observer.failed(self._stage.name, kind)
        pause_s = min(HOLD_SECONDS_MAX, self._around.hold_s_min * 2 ** min(attempts, 20))
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  so that held partitions do not knock in step
        pause_s *= jitter
        if isinstance(error, ServiceRateLimited) and error.retry_after_s is not None:
            # Never earlier than asked for, and not all in the same moment.
            asked_s = min(RETRY_AFTER_SECONDS_MAX, error.retry_after_s)
            pause_s = max(pause_s, asked_s + jitter * self._around.hold_s_min)
        log.warning(
            "partition held",
            extra={"place": self._place, "reason": self.held_reason, "retry_s": round(pause_s, 2)},
        )
        await asyncio.wait({self._closing}, timeout=pause_s)


class _Parts(Generic[Item]):
    """What is still to be done, in order, in the sizes in which it will be tried."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._parts = deque([items])

    def take(self) -> Sequence[Item]:
        """Return the next part; an empty one at the end."""
        return self._parts.popleft() if self._parts else ()

    def halve(self, part: Sequence[Item]) -> bool:
        """Put a part that was taken back as two halves, unless it is a single item."""
        if len(part) == 1:
            return False
        middle = len(part) // 2
        self._parts.extendleft((part[middle:], part[:middle]))
        return True

    def next_item(self) -> Item | None:
        """Return the item that follows what was taken."""
        return self._parts[0][0] if self._parts else None


async def _call(handler: Handler, unit: UnitOfWork) -> None:
    await handler(unit)


def _error_of(handling: asyncio.Task[None]) -> Exception | None:
    if handling.cancelled():
        return HandlerInterrupted("the handler was cancelled from within")
    error = handling.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error
