"""Faults: each a small class that does one bad thing to a rig, and puts right what an operator would.

`strike` returns the mark from which recovery counts: that of the fault itself, or, where a service is away for a
named time, that of its return.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from tests.chaos.rig import Rig
from tests.chaos.watch import Mark, Side


class Fault(Protocol):
    """One thing that goes wrong."""

    @property
    def name(self) -> str: ...

    @property
    def side(self) -> Side:
        """Where recovery shows: in the topics, or in Postgres."""

    def strike(self, rig: Rig, chance: Random) -> Mark:
        """Let it happen, at moments and to victims that `chance` chooses; return the mark from which recovery counts.

        Raises:
            FaultFailed: what must be true during the fault was not (a zombie that was let in, say).
        """


class FaultFailed(Exception):
    """The system did something during a fault that it must never do, or the fault could not be caused."""


class FaultSkipped(Exception):
    """This machine has not what the fault needs; the message says what."""
