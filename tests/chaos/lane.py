"""Strike faults one after the other, at moments the seed chooses.

After half of the faults the lane waits until every partition has gone on; after the others the next one comes while
the system still recovers, because that is when it is weakest. Two lanes may run at once: one that disturbs the
stream, one that disturbs the catalogue.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import Fault, FaultSkipped
from tests.chaos.rig import Rig
from tests.chaos.watch import Mark

OVERLAP_SHARE = 0.5
OVERLAP_PAUSE_S = (0.3, 4.0)
CALM_PAUSE_S = (0.5, 2.5)
RECOVERY_SECONDS_MAX = 90.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened. `overlapped` = the next one did not wait for the recovery."""

    fault: Fault
    mark: Mark
    overlapped: bool
    problem: str = ""
    skipped: str = ""


class Lane:
    """Faults in order; `struck` fills as they happen."""

    def __init__(self, rig: Rig, faults: Sequence[Fault], name: str, seed: int) -> None:
        self.struck: list[Struck] = []
        self._rig = rig
        self._faults = faults
        self._chance = random.Random(f"{name} {seed}")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def strike_all(self) -> None:
        """Strike every fault, here and now, and wait for no recovery."""
        for fault in self._faults:
            self._strike(fault, overlapped=True)

    def _run(self) -> None:
        for number, fault in enumerate(self._faults):
            if self._rig.over.wait(self._chance.uniform(*CALM_PAUSE_S)):
                return
            last = number == len(self._faults) - 1
            overlapped = not last and self._chance.random() < OVERLAP_SHARE
            struck = self._strike(fault, overlapped=overlapped)
            if struck.problem:
                self._rig.over.set()
            elif overlapped:
                time.sleep(self._chance.uniform(*OVERLAP_PAUSE_S))
            elif not struck.skipped:
                self._await_recovery(fault, struck.mark)

    def _strike(self, fault: Fault, *, overlapped: bool) -> Struck:
        self._rig.say(f"fault: {fault.name}")
        try:
            struck = Struck(fault, fault.strike(self._rig, self._chance), overlapped)
        except FaultSkipped as why:
            self._rig.say(f"skipped: {why}")
            struck = Struck(fault, self._rig.mark(), overlapped, skipped=str(why))
        except Exception as error:  # noqa: BLE001  whatever it is, it is the scenario's result
            self._rig.say(f"fault failed: {error}")
            struck = Struck(fault, self._rig.mark(), overlapped, f"{type(error).__name__}: {error}")
        self.struck.append(struck)
        return struck

    def _await_recovery(self, fault: Fault, mark: Mark) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while self._rig.watch.recovered_at(fault.side, mark) is None:
            if time.monotonic() > deadline or self._rig.over.wait(POLL_S):
                self._rig.say(f"no recovery from: {fault.name}")
                return


def recovery_s(rig: Rig, struck: Struck) -> float | None:
    """Return how long every partition took to go on from the mark; None = some never did."""
    at = rig.watch.recovered_at(struck.fault.side, struck.mark)
    return None if at is None else round(at - struck.mark.at, 1)
