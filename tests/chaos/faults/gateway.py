"""What a model gateway does: it is slow, refuses, breaks, talks nonsense. Partitions are held until it is well."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side

TROUBLED_S = (3.0, 5.0)


@dataclass(frozen=True, slots=True)
class GatewayTroubled:
    """For some seconds every answer is wrong in one way; recovery counts from the first right one."""

    trouble: str  # a key of `gateway.TROUBLES`
    side: Side = "stream"

    @property
    def name(self) -> str:
        return f"model gateway {self.trouble}"

    def strike(self, rig: Rig, chance: Random) -> Mark:
        rig.gateway.trouble = self.trouble
        time.sleep(chance.uniform(*TROUBLED_S))
        rig.gateway.trouble = ""
        return rig.mark()
