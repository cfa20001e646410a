"""What a session is told: the stage whose records it works on, and what all sessions of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.engine.dead_letter import DeadLetters
from streams.engine.exactly_once.producer import TransactionalProducer
from streams.engine.limits import HOLD_SECONDS_MIN
from streams.engine.ports import Handler, Observer, Split
from streams.engine.store import NoStore, Store

# Makes the producer of a transactional id. A bench passes another, to tell what transactions cost.
NewProducer = Callable[[str, Mapping[str, Any]], TransactionalProducer]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the records of one topic are for.

    `split` parts a record that carries several things; `unit_records_max` makes units smaller than those of others.
    """

    name: str
    topic: str
    handler: Handler
    split: Split | None = None
    unit_records_max: int | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session of a worker shares."""

    group: str
    unit_records_max: int
    unit_wait_s: float
    commit_interval_s: float
    dead_letters: DeadLetters
    observer: Observer
    hold_s_min: float = HOLD_SECONDS_MIN
    store: Store = field(default_factory=NoStore)
    new_producer: NewProducer = TransactionalProducer
    # Held until the next turn of the loop by a handler that starts, so that handlers which compute start one a turn:
    # heartbeats and commits of the others come between them, however many partitions have a backlog. A single one
    # starts at once.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
