"""Which faults disturb one replay, and under which settings.

A scenario is one replay in a folder of its own, with one verdict at its end. Its faults stand in two lanes that run
at the same time; the seed shuffles each lane. Everything not named is promptloom's default, session timeout
included: the seconds in the table are what a user would wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from streams.engine.settings import EngineSettings
from tests.chaos.faults import Fault
from tests.chaos.faults.broker import BrokerAndWorkerKilled, BrokerFrozen, BrokerKilled, BrokerStopped
from tests.chaos.faults.clock import ClockSet
from tests.chaos.faults.gateway import GatewayTroubled
from tests.chaos.faults.postgres import (
    ConnectionsCut,
    PostgresKilledInTransaction,
    PostgresStopped,
    SinkFrozen,
    SinkKilled,
)
from tests.chaos.faults.state import (
    ChangelogsCompacted,
    DiskFull,
    RowsOfAnotherVersion,
    StateDeleted,
    StateOutdated,
)
from tests.chaos.faults.workers import (
    AllWorkersKilled,
    WorkerFrozen,
    WorkerKilled,
    WorkersJoinAndLeave,
    WorkerStopped,
)
from tests.chaos.gateway import TROUBLES
from tests.chaos.rig import Conditions

DEFAULTS = Conditions()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One replay."""

    name: str
    stream: tuple[Fault, ...] = ()
    catalogue: tuple[Fault, ...] = ()
    after: tuple[Fault, ...] = ()  # once the verdict is in: what is meant to stop the workers for good
    conditions: Conditions = DEFAULTS


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
    Scenario(
        "models",
        stream=(*(GatewayTroubled(trouble) for trouble in TROUBLES), WorkerKilled()),
        conditions=Conditions(gateway=True, poison=True),
    ),
    Scenario(
        "state",
        stream=(
            *(ClockSet("clock set back by an hour", -3_600), ClockSet("clock set ahead by a day", 86_400)),
            *(StateDeleted(), StateOutdated(), DiskFull(), ChangelogsCompacted()),
        ),
        after=(RowsOfAnotherVersion(),),
        conditions=Conditions(
            own_clock=True, sections={"engine": EngineSettings(app_id="promptloom", store="rocksdb")}
        ),
    ),
)

SHORT = Scenario(
    "short",
    stream=(WorkerKilled(), WorkerFrozen(), BrokerKilled(), WorkerKilled()),
    catalogue=(ConnectionsCut(), SinkKilled()),
    conditions=Conditions(partitions=4, session_timeout_s=6.0),
)
