"""All sessions of a worker: opened after each assignment, closed before the next.

Closing happens inside the rebalance callback, so that the next owner finds everything committed;
opening happens in a task of its own, so that a long restore costs no group membership. Between the
two nothing is fetched, because only partitions of living sessions are.

Memory is kept across assignments: the tables of (owner topic, partition) hold the state at one
position. When that is the committed one, nothing was missed and nothing is read; otherwise the rows
come from the changelog again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from schemas.errors import StateIncompatible
from streams.engine.exactly_once.careful import Unreadable
from streams.engine.exactly_once.hanging import HangingTransactions
from streams.engine.exactly_once.inbox import Batch
from streams.engine.exactly_once.processing import FATAL
from streams.engine.exactly_once.producer import ConnectionLost, ProducerId, TransactionalProducer
from streams.engine.exactly_once.restore import refuse_forgotten_work, refuse_lost_offsets, restore
from streams.engine.exactly_once.session import Session
from streams.engine.exactly_once.stage import Stage, Surroundings
from streams.engine.exactly_once.truth import Position, Source, Truth
from streams.engine.limits import (
    EXIT_CODE_STUCK,
    FAILURES_FORGOTTEN_S,
    OPEN_CONCURRENCY,
    OPEN_RETRY_SECONDS_MAX,
    OPEN_RETRY_SECONDS_MIN,
    REJOIN_SECONDS_MAX,
    REJOIN_SECONDS_MIN,
    STALLED_SECONDS_MAX,
    STUCK_SECONDS_MAX,
    WATCH_INTERVAL_S,
)
from streams.engine.tables import ChangelogTable, View

log = logging.getLogger(__name__)

UNASSIGNED = "waiting for the group to assign partitions"

T = TypeVar("T")


class Group(Protocol):
    """What the sessions need of the consumer."""

    async def go_on_from(self, epoch: int, positions: Mapping[Source, int]) -> None:
        """Fetch from these positions on; batches fetched before carry an older epoch."""

    def rejoin(self) -> None:
        """Ask for a new assignment."""

    def last_stable_offset(self, source: Source) -> int | None:
        """Return the end of what can be read, None where unknown."""


class Sessions:
    """Opens, feeds and closes the sessions of one worker."""

    def __init__(
        self,
        stages: Mapping[str, Stage],
        tables: Sequence[ChangelogTable],
        views: Mapping[str, View],
        around: Surroundings,
        connection: Mapping[str, Any],
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.epoch = 0
        self._stages = stages
        self._tables = {topic: [table for table in tables if table.owner == topic] for topic in stages}
        self._views = views
        self._around = around
        self._connection = connection
        self._on_fatal = on_fatal
        own = [*stages, *(table.changelog for table in tables), around.dead_letters.topic]
        self._hanging = HangingTransactions(around.group, connection, own)
        self._group: Group | None = None
        self._live: dict[Source, Session] = {}  # replaced, never changed: other threads look at it
        self._known: dict[Source, int] = {}  # position whose state the tables hold
        self._opening: asyncio.Task[None] | None = None
        # Since when there was neither work nor a reason for having none. None = all is well.
        self._waiting_since: float | None = time.monotonic()
        self._phase = UNASSIGNED  # what is waited for, while something is
        self._unreadable = ""  # the changelog that keeps sessions from opening, and what to do
        self._failures = 0  # in quick succession
        self._failed_at = -FAILURES_FORGOTTEN_S
        self._moved_at: dict[Source, tuple[int, float]] = {}  # position, and when it was reached

    # -- records

    def fetchable(self) -> list[Source]:
        """Return the partitions to fetch: those whose session works and has room."""
        return [source for source, session in self._live.items() if session.hungry]

    def deliver(self, batch: Batch) -> None:
        """Pass a batch to its session; one of an earlier assignment is dropped, it will be read again."""
        session = self._live.get((batch.topic, batch.partition))
        if batch.epoch == self.epoch and session is not None and session.working:
            session.push(batch)

    # -- life

    def open(self, group: Group, assigned: Iterable[Source]) -> None:
        """Start to open a session for each assigned source partition; returns at once."""
        sources = sorted(source for source in assigned if source[0] in self._stages)
        self._group = group
        self._opening = asyncio.create_task(self._open_until_done(group, sources), name="open sessions")

    async def close(self) -> None:
        """Commit what is whole, undo what is not, let go of every partition."""
        self.epoch += 1
        self._waiting_since = time.monotonic()
        self._phase = UNASSIGNED
        self._unreadable = ""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        live, self._live = self._live, {}
        for source in live:  # at once: when this is cancelled, nobody may take the tables for what they were at first
            self._known.pop(source, None)
            self._around.observer.lag(*source, 0)  # from now on its next owner's, who may be somebody else
        await asyncio.gather(*(session.close() for session in live.values()))
        self._known |= {source: session.position for source, session in live.items() if session.clean}

    def failed(self, session: Session, error: Exception) -> None:
        """Start over after a doubt, or stop the worker where starting over cannot help."""
        if isinstance(error, FATAL):
            self._on_fatal(error)
            return
        log.warning("session starts over", extra={"place": session.place, "error": repr(error)})
        self._around.observer.failed(session.stage.name, type(error).__name__)
        if self._waiting_since is not None or self._group is None:
            return
        # A partition that fails again and again must not keep all others busy with rebalances.
        now = self._waiting_since = time.monotonic()
        self._phase = f"{session.place} starts over: {error!r}"
        if not isinstance(error, ConnectionLost):  # no fault of the partition
            self._failures = self._failures + 1 if now - self._failed_at < FAILURES_FORGOTTEN_S else 0
            self._failed_at = now
        pause_s = min(REJOIN_SECONDS_MAX, REJOIN_SECONDS_MIN * 2**self._failures) if self._failures else 0.0
        asyncio.get_running_loop().call_later(pause_s, self._rejoin, self.epoch)

    async def watch(self) -> None:
        """Report lag, notice what does not move, and never let the worker hang."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            now = time.monotonic()
            for source, session in self._live.items():
                session.check()
                end = self._group.last_stable_offset(source) if self._group is not None else None
                lag = max(0, (end or 0) - session.position)
                self._around.observer.lag(*source, lag)
                if not lag or self._moved_at.get(source, (-1, now))[0] != session.position:
                    self._moved_at[source] = session.position, now
            if self._waiting_since is not None and now - self._waiting_since > STUCK_SECONDS_MAX:
                log.critical("worker is stuck: exit", extra={"seconds": STUCK_SECONDS_MAX})
                os._exit(EXIT_CODE_STUCK)

    def reasons(self) -> dict[str, str]:
        """Return why work does not move, by place; empty = it moves."""
        now = time.monotonic()
        reasons: dict[str, str] = {}
        for source, session in self._live.items():
            still_s = now - self._moved_at.get(source, (0, now))[1]
            if session.held_reason:
                reasons[session.place] = session.held_reason
            elif still_s > STALLED_SECONDS_MAX:
                reasons[session.place] = f"records wait, but the position has not moved for {still_s:.0f} s"
        if self._waiting_since is not None:
            reasons["group"] = self._unreadable or self._phase
        return reasons

    def _rejoin(self, epoch: int) -> None:
        """Start over, unless a rebalance has done so meanwhile."""
        if epoch == self.epoch and self._group is not None:
            self._group.rejoin()

    async def _open_until_done(self, group: Group, sources: Sequence[Source]) -> None:
        pause_s = OPEN_RETRY_SECONDS_MIN
        while True:
            try:
                return await self._open(group, sources)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                log.warning("opening sessions was cancelled from within, trying again")
            except StateIncompatible as error:
                return self._on_fatal(error)
            except Unreadable as error:
                if self._unreadable != str(error):
                    log.error("changelog cannot be read, trying again", extra={"reason": str(error)})  # noqa: TRY400
                self._unreadable = str(error)
                self._waiting_since = time.monotonic()  # it does not hang, and to start again would not help
            except Exception as error:  # noqa: BLE001  a broker that is away; the watch ends it in time
                self._phase = f"opening sessions failed, trying again: {error!r}"
                log.warning("opening sessions failed, trying again", extra={"error": repr(error)})
            await asyncio.sleep(pause_s)
            pause_s = min(OPEN_RETRY_SECONDS_MAX, 2 * pause_s)

    async def _open(self, group: Group, sources: Sequence[Source]) -> None:
        started_at = time.monotonic()
        self._phase = f"taking over {len(sources)} partitions from their earlier owners"
        ids = {f"{self._around.group}-{topic}-{partition}": (topic, partition) for topic, partition in sources}
        producers = {source: self._around.new_producer(name, self._connection) for name, source in ids.items()}
        try:
            await self._hanging.look(ids)
            held = await _gather([partial(self._fence, producer) for producer in producers.values()])
            ended = await self._hanging.finish(held)
            fenced_at = time.monotonic()
            async with Truth(self._around.group, self._connection, self._progress) as truth:
                positions = await truth.positions(sources)
                restored = await self._restore(truth, positions)
                every_table = [table for of in self._tables.values() for table in of]
                await refuse_lost_offsets(truth, positions, every_table)
            if not every_table:
                await self._begin(producers, positions)
            await group.go_on_from(self.epoch, {source: position.offset for source, position in positions.items()})
        except BaseException:
            await asyncio.gather(*(producer.stop() for producer in producers.values()))
            raise
        self._moved_at = {}
        self._live = {
            (topic, partition): Session(
                self._stages[topic],
                partition,
                positions[topic, partition].offset,
                producer,
                self._views[topic],
                self._around,
                self.failed,
            )
            for (topic, partition), producer in producers.items()
        }
        self._waiting_since = None
        self._unreadable = ""
        log.info(
            "sessions open",
            extra={
                "partitions": len(sources),
                "restored": restored,
                "hanging": ended,
                "fence_s": round(fenced_at - started_at, 3),
                "open_s": round(time.monotonic() - started_at, 3),
            },
        )

    async def _begin(
        self, producers: Mapping[Source, TransactionalProducer], positions: Mapping[Source, Position]
    ) -> None:
        """Commit where a first start begins, so that later on `no offset` means that offsets were lost.

        Only in an app without tables; elsewhere rows tell that.
        """
        refuse_forgotten_work(positions, self._hanging.worked, self._around.group, self._hanging.notes_group)
        fresh = {source: position.offset for source, position in positions.items() if not position.committed}
        for source, offset in fresh.items():
            await producers[source].send(())
            await producers[source].commit(source, offset, self._around.group)
        # After the commit: a worker that dies in between has promised nothing.
        await self._hanging.note_worked(
            {producers[source].transactional_id: source for source in set(positions) - self._hanging.worked}
        )

    async def _fence(self, producer: TransactionalProducer) -> ProducerId:
        held = await producer.start()
        self._hanging.fenced(producer.transactional_id, held)
        return held

    async def _restore(self, truth: Truth, positions: Mapping[Source, Position]) -> int:
        """Bring every table to the committed position of its owner; return how many partitions were read."""
        # Not only those known: a partition in doubt may have gone to another worker, too.
        held = {(topic, number) for topic, of in self._tables.items() for table in of for number in table.partitions}
        for topic, partition in (held | set(self._known)) - set(positions):
            self._known.pop((topic, partition), None)
            for table in self._tables[topic]:
                table.drop(partition)
            self._views[topic].changed(partition)
        stale = [source for source, position in positions.items() if self._known.get(source) != position.offset]
        for source in stale:
            self._known.pop(source, None)
        await restore(truth, self._around.store, {source: positions[source] for source in stale}, self._tables)
        for topic, partition in stale:
            self._views[topic].changed(partition)
            self._known[topic, partition] = positions[topic, partition].offset
        return len(stale)

    def _progress(self, done: int, total: int) -> None:
        self._waiting_since = time.monotonic()
        self._phase = f"restoring state: {done:,} of {total:,} changelog offsets read"


async def _gather(starts: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all, a few at a time, and wait for every one of them even when some fail."""
    turns = asyncio.Semaphore(OPEN_CONCURRENCY)

    async def one(start: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await start()

    results = await asyncio.gather(*map(one, starts), return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
