"""What happens to the broker: killed, killed together with a worker, stopped for a minute, frozen."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from random import Random

from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

RESTART_PAUSE_S = 2.0
AWAY_S = 60.0
FROZEN_S = (5.0, 12.0)
STREAM: Side = "stream"


@dataclass(frozen=True, slots=True)
class BrokerKilled:
    """kill -9, and a start two seconds later."""

    name: str = "broker killed (kill -9)"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        mark = rig.mark()
        rig.kafka.kill()
        time.sleep(RESTART_PAUSE_S)
        rig.kafka.restart()
        return mark


@dataclass(frozen=True, slots=True)
class BrokerAndWorkerKilled:
    """Both at once: nobody is left who knows whether the last commit took effect."""

    name: str = "broker and a worker killed together"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        victim = chance.choice(rig.fleet.running("worker"))
        mark = rig.mark()
        rig.fleet.kill(victim)
        rig.kafka.kill()
        time.sleep(RESTART_PAUSE_S)
        rig.kafka.restart()
        rig.fleet.again(victim)
        return mark


@dataclass(frozen=True, slots=True)
class BrokerStopped:
    """Stopped in good order and away for a minute; recovery counts from its return."""

    away_s: float = AWAY_S
    side: Side = STREAM

    @property
    def name(self) -> str:
        return f"broker stopped for {self.away_s:g} s"

    def strike(self, rig: Rig, chance: Random) -> Mark:
        rig.kafka.stop()
        time.sleep(self.away_s)
        mark = rig.mark()
        rig.kafka.restart()
        return mark


@dataclass(frozen=True, slots=True)
class BrokerFrozen:
    """SIGSTOP, then SIGCONT: requests hang without an error."""

    name: str = "broker frozen (SIGSTOP)"
    side: Side = STREAM

    def strike(self, rig: Rig, chance: Random) -> Mark:
        rig.kafka.kill(signal.SIGSTOP)
        time.sleep(chance.uniform(*FROZEN_S))
        mark = rig.mark()
        rig.kafka.kill(signal.SIGCONT)
        return mark
