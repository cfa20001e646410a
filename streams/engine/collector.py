"""Python's search for cyclic garbage, so that nobody waits for it.

Tables and tenants' engines are millions of small objects without cycles. Looking through all of them takes a second,
through the 50,000 youngest some 30 ms, in the middle of a unit. So looks are small and come often, and what outlived
two of them is not looked at again. What is let go is freed all the same: objects count who refers to them.

What this costs: a cycle that became garbage after it was looked at twice stays. Sessions, which hold such cycles, end
seldom and are small.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 2_000  # made before they are looked at, which takes about a millisecond
YOUNG_LOOKS = 5  # before what survived them is looked at once more


def tame() -> None:
    """Let the collector look at young objects only, from now on, in this whole process."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays for good
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS)
    if _leave_survivors_alone not in gc.callbacks:
        gc.callbacks.append(_leave_survivors_alone)


def _leave_survivors_alone(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 1:
        gc.freeze()
