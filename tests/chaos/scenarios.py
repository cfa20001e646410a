"""Which faults disturb one replay, and under which settings.

A scenario is one replay in a folder of its own, with one verdict at its end. Its faults stand in two lanes that run
at the same time; the seed shuffles each lane. Everything not named is promptloom's default, session timeout
included: the seconds in the table are what a user would wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.faults import Fault
from tests.chaos.faults.broker import BrokerAndWorkerKilled, BrokerFrozen, BrokerKilled, BrokerStopped
from tests.chaos.faults.postgres import (
    ConnectionsCut,
    PostgresKilledInTransaction,
    PostgresStopped,
    SinkFrozen,
    SinkKilled,
)
from tests.chaos.faults.workers import (
    AllWorkersKilled,
    WorkerFrozen,
    WorkerKilled,
    WorkersJoinAndLeave,
    WorkerStopped,
)

PER_SECOND = 60.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One replay."""

    name: str
    stream: tuple[Fault, ...] = ()
    catalogue: tuple[Fault, ...] = ()
    workers: int = 2
    per_second: float = PER_SECOND
    partitions: int = 8
    session_timeout_s: float = 8.0
    shuffled: bool = True
    sections: Mapping[str, Any] = field(default_factory=dict)


LONG: tuple[Scenario, ...] = (
    Scenario("kills", stream=(WorkerKilled(),) * 10, catalogue=(PostgresStopped(),)),
    Scenario(
        "rebalances",
        stream=(WorkerStopped(), WorkerFrozen(), WorkersJoinAndLeave(), AllWorkersKilled(), WorkerStopped()),
        catalogue=(ConnectionsCut(), SinkFrozen(), PostgresKilledInTransaction(), SinkKilled(), ConnectionsCut()),
    ),
    Scenario(
        "broker",
        stream=(BrokerKilled(), BrokerKilled(), BrokerAndWorkerKilled(), BrokerFrozen(), BrokerStopped()),
    ),
)

SHORT = Scenario(
    "short",
    stream=(WorkerKilled(), WorkerFrozen(), WorkerKilled(), WorkerKilled()),
    catalogue=(ConnectionsCut(), SinkKilled()),
    partitions=4,
    session_timeout_s=6.0,
    per_second=40.0,
)
