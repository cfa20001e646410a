"""One source partition between the fence and the next doubt.

A session is one task that does, in order, everything its partition needs: wait for records, apply a
unit of them, commit. Nothing else touches its producer, so there is nothing to lock. What becomes of
records that fail is in `processing.py`; the consumer stays in its group meanwhile, it only stops
fetching this partition when enough waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from streams.engine.exactly_once.inbox import Batch, Fault, Inbox
from streams.engine.exactly_once.ledger import Ledger
from streams.engine.exactly_once.processing import Processing
from streams.engine.exactly_once.producer import ConnectionLost, TransactionalProducer
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.limits import CLOSE_SECONDS_MAX, UNREADABLE_RETRY_S
from streams.engine.tables import View

log = logging.getLogger(__name__)


class SessionCancelled(Exception):
    """The task of a session was cancelled, and not by its `close`."""


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
        self.clean = True  # the tables hold exactly the state at `position`, and it is committed
        self._partition = partition
        self._producer = producer
        self._view = view
        self._on_failure = on_failure
        records_max = min(stage.unit_records_max or around.unit_records_max, around.unit_records_max)
        self._inbox = Inbox(position, records_max)
        self._ledger = Ledger(
            producer,
            (stage.topic, partition),
            around.group,
            position,
            around.unit_wait_s,
            around.commit_interval_s,
            around.observer,
            around.store,
        )
        self._around = around
        self._unreadable = ""  # why nothing more can be fetched, and when that is tried again
        self._fetch_again_at = 0.0
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._processing = Processing(stage, partition, self._ledger, view, around, self._closing)
        self._task = asyncio.create_task(self._run(), name=f"session {self.place}")
        self._task.add_done_callback(self._ended)

    @property
    def position(self) -> int:
        """Position after the last completed unit."""
        return self._ledger.position

    @property
    def held_reason(self) -> str:
        """Why the partition is held; empty = it is not."""
        return self._processing.held_reason or self._unreadable

    @property
    def working(self) -> bool:
        return not (self._task.done() or self._closing.done())

    @property
    def hungry(self) -> bool:
        """Whether to fetch for it."""
        return self.working and not self._inbox.full and time.monotonic() >= self._fetch_again_at

    def push(self, batch: Batch) -> None:
        """Take the next batch of the partition; one that does not join is a doubt."""
        try:
            self._inbox.push(batch)
            if batch.fault is None:
                self._unreadable = ""
            else:
                self._hold(batch.fault)
        except Exception as error:  # noqa: BLE001  a gap, and whatever else
            self._start_over(error)

    def check(self) -> None:
        """Start over when a broker went away: what it answered last may not have come true everywhere."""
        if self.working and self._producer.connection_lost:
            self._start_over(ConnectionLost("a connection to a broker broke"))

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
                    await self._processing.apply(*self._inbox.take())
            await self._ledger.commit()
        except Exception as error:  # noqa: BLE001  whatever it is: doubt, so everything starts over
            if not self._closing.done():
                self._closing.set_result(None)
            self._doubt(error)
        # Not before the last commit: also behind a lost connection it is tried, because it brings the markers that
        # the commit before it may have lost. And not only at the next assignment, which waits for the broker.
        await self._producer.stop()

    def _hold(self, fault: Fault) -> None:
        """Fetch nothing for a while: what comes next cannot be read, and nobody but its operator may leave it out."""
        self._fetch_again_at = time.monotonic() + UNREADABLE_RETRY_S
        topic = self.stage.topic
        reason = (
            f"{topic}-{self._partition} cannot be read at offset {fault.at} ({fault.error}): mend it, or, to go on "
            f"without it, stop all workers, set the offset of group {self._around.group} to {fault.after}, and restart"
        )
        if reason == self._unreadable:
            return  # said and counted when it came up
        self._unreadable = reason
        log.error("partition held", extra={"place": self.place, "reason": reason})
        self._around.observer.failed(self.stage.name, fault.error)

    def _start_over(self, error: Exception) -> None:
        self._closing.set_result(None)
        self._inbox.wake()
        self._doubt(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Start over where somebody else cancelled the session, at whatever moment; nobody would notice otherwise."""
        if not task.cancelled():
            return
        if self._closing.done():  # it was cancelled by `close`, which is in doubt itself
            self.clean = False
            self._view.changed(self._partition)
        else:
            self._start_over(SessionCancelled(f"the session of {self.place} was cancelled"))

    def _doubt(self, error: Exception) -> None:
        self.clean = False
        self._view.changed(self._partition)
        self._on_failure(self, error)
