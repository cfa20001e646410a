"""What happens to Postgres and to the sink: away, killed in the middle of a transaction, cut off, frozen."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from random import Random

import psycopg

from infra.embedded.processes import alive, wait_until
from tests.chaos.faults import FaultFailed
from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

CATALOGUE: Side = "catalogue"
AWAY_S = 60.0
RESTART_PAUSE_S = 2.0
# To cause the fault, not to recover from it: a broker may be away at the same time, on a machine that does other work.
WRITING_WITHIN_S = 90.0
SUCCESSOR_WRITES_S = (3.0, 6.0)
REFUSED_WITHIN_S = 40.0
WRITERS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'promptloom' AND datname = current_database() AND backend_xid IS NOT NULL
"""
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'promptloom'"


@dataclass(frozen=True, slots=True)
class PostgresStopped:
    """Stopped in good order and away for a minute; recovery counts from its return."""

    away_s: float = AWAY_S
    side: Side = CATALOGUE

    @property
    def name(self) -> str:
        return f"Postgres stopped for {self.away_s:g} s"

    def strike(self, rig: Rig, chance: Random) -> Mark:
        rig.postgres.stop()
        time.sleep(self.away_s)
        mark = rig.mark()
        rig.postgres.restart()
        return mark


@dataclass(frozen=True, slots=True)
class PostgresKilledInTransaction:
    """Immediate shutdown while the sink has a transaction open that has written, then a start."""

    name: str = "Postgres killed in the middle of a transaction"
    side: Side = CATALOGUE

    def strike(self, rig: Rig, chance: Random) -> Mark:
        wait_for_writer(rig)
        mark = rig.mark()
        rig.postgres.kill(signal.SIGQUIT)
        time.sleep(RESTART_PAUSE_S)
        rig.postgres.restart()
        return mark


@dataclass(frozen=True, slots=True)
class ConnectionsCut:
    """pg_terminate_backend on the sink, in the middle of a transaction."""

    name: str = "Postgres connections cut"
    side: Side = CATALOGUE

    def strike(self, rig: Rig, chance: Random) -> Mark:
        return wait_for_writer(rig, then=CUT)


@dataclass(frozen=True, slots=True)
class SinkKilled:
    """kill -9 of the sink in the middle of a transaction, then a start."""

    name: str = "sink killed (kill -9)"
    side: Side = CATALOGUE

    def strike(self, rig: Rig, chance: Random) -> Mark:
        (victim,) = rig.fleet.running("sink")
        wait_for_writer(rig)
        mark = rig.mark()
        rig.fleet.kill(victim)
        rig.fleet.again(victim)
        return mark


@dataclass(frozen=True, slots=True)
class SinkFrozen:
    """SIGSTOP; a successor runs; SIGCONT: the first one's next write must be refused, and it must end."""

    name: str = "sink frozen while its successor runs"
    side: Side = CATALOGUE

    def strike(self, rig: Rig, chance: Random) -> Mark:
        (first,) = rig.fleet.running("sink")
        successor = f"sink-{int(first.partition('-')[2]) + 1}"
        frozen = rig.fleet.leave(first)
        mark = rig.mark()
        rig.fleet.freeze(first)
        rig.fleet.start(successor)
        if not wait_until(lambda: rig.watch.recovered_at(CATALOGUE, mark) is not None, REFUSED_WITHIN_S):
            raise FaultFailed("the successor of a frozen sink did not write")
        time.sleep(chance.uniform(*SUCCESSOR_WRITES_S))
        rig.fleet.thaw(first)
        if not wait_until(lambda: not alive(frozen.child.identity), REFUSED_WITHIN_S):
            raise FaultFailed("a sink that was frozen while its successor wrote went on when it woke up")
        return mark


def wait_for_writer(rig: Rig, then: str = "SELECT 1") -> Mark:
    """Wait for the sink to be inside a transaction that has written; run a statement at once."""
    ends_at = time.monotonic() + WRITING_WITHIN_S
    with psycopg.connect(rig.dsn, autocommit=True) as database:
        while time.monotonic() < ends_at:
            if database.execute(WRITERS).fetchone():
                database.execute(then.encode())
                return rig.mark()
    raise FaultFailed(f"the sink opened no transaction within {WRITING_WITHIN_S:g} s")
