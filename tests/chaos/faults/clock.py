"""The wall clock is set while workers and sink run: back by an hour, ahead by a day."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.chaos import clock
from tests.chaos.faults import FaultSkipped
from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side


@dataclass(frozen=True, slots=True)
class ClockSet:
    """From one second to the next the time of day is so far from the true one."""

    name: str
    off_s: int
    side: Side = "stream"

    def strike(self, rig: Rig, chance: Random) -> Mark:
        if not clock.available():
            raise FaultSkipped("there is no C compiler (cc)")
        mark = rig.mark()
        clock.set_off(rig.folder, self.off_s)
        return mark
