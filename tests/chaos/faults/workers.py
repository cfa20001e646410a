"""What happens to workers: killed, stopped, frozen past their session, joined by others, all gone at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

# How long an orchestrator takes to start a worker again: at once, or after its own back-off.
RESTART_PAUSES_S = (0.1, 1.0, 3.0, 6.0)
FREEZE_BEYOND_SESSION_S = (2.0, 6.0)
STAY_S = (4.0, 8.0)  # how long a worker that joins stays
STREAM: Side = "stream"


@dataclass(frozen=True, slots=True)
class WorkerKilled:
    """kill -9 at a random moment; another start follows."""

    name: str = "worker killed (kill -9)"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        victim = chance.choice(rig.fleet.running("worker"))
        mark = rig.mark()
        rig.fleet.kill(victim)
        time.sleep(chance.choice(RESTART_PAUSES_S))
        rig.fleet.again(victim)
        return mark


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """SIGTERM: the worker finishes its units and leaves; another start follows."""

    name: str = "worker stopped (SIGTERM)"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        victim = chance.choice(rig.fleet.running("worker"))
        mark = rig.mark()
        rig.fleet.stop(victim)
        time.sleep(chance.choice(RESTART_PAUSES_S))
        rig.fleet.again(victim)
        return mark


@dataclass(frozen=True, slots=True)
class WorkerFrozen:
    """SIGSTOP for longer than the session lasts, then SIGCONT: it wakes up believing that it owns partitions."""

    name: str = "worker frozen, then a zombie (SIGSTOP)"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        victim = chance.choice(rig.fleet.running("worker"))
        mark = rig.mark()
        rig.fleet.freeze(victim)
        time.sleep(rig.settings.engine.session_timeout_s + chance.uniform(*FREEZE_BEYOND_SESSION_S))
        rig.fleet.thaw(victim)
        return mark


@dataclass(frozen=True, slots=True)
class WorkersJoinAndLeave:
    """A further worker comes under load, then one more; then both leave: one by SIGTERM, one by kill -9."""

    name: str = "workers join and leave under load"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        guests = ["worker-guest-1", "worker-guest-2"]
        for guest in guests:
            rig.fleet.start(guest)
            time.sleep(chance.uniform(*STAY_S))
        chance.shuffle(guests)
        rig.fleet.stop(guests[0])
        time.sleep(chance.uniform(0.0, 2.0))
        mark = rig.mark()
        rig.fleet.kill(guests[1])
        return mark


@dataclass(frozen=True, slots=True)
class AllWorkersKilled:
    """Every worker at once, as a power cut would; then all of them start."""

    name: str = "all workers killed at once"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        mark = rig.mark()
        victims = rig.fleet.running("worker")
        for victim in victims:
            rig.fleet.kill(victim)
        time.sleep(chance.choice(RESTART_PAUSES_S))
        for victim in victims:
            rig.fleet.again(victim)
        return mark
