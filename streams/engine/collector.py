"""Python's search for cyclic garbage, so that nobody waits for it.

Tables and tenants' engines are millions of small objects without cycles. Looking through all of them takes a second,
through the 50,000 youngest some 30 ms, in the middle of a unit. So looks at the young are small and come often, and
what outlived them is looked at again only when the process has made hundreds of millions of objects more than it let
go. What has no cycles is freed at once all the same, when nobody refers to it any more.

What this costs: a cycle that became garbage after it had outlived the looks, one or two, stays for long.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 2_000  # made before they are looked at, which takes about a millisecond
YOUNG_LOOKS = 5  # before what survived them is looked at once more
OLD_LOOKS = 25_000  # of the latter kind, before everything is


def tame() -> None:
    """Let the collector hardly ever look at old objects, from now on, in this whole process."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays for good
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, OLD_LOOKS)
