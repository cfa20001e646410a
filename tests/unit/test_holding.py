"""A held partition asks again, but never sooner than it was told to."""

from __future__ import annotations

import time
from itertools import pairwise

from schemas.errors import ServiceRateLimited
from streams.engine.ports import Unit
from tests.session_run import Run

ASKED_S = 0.1


async def test_a_rate_limit_is_waited_out_at_least_as_long_as_the_service_asks() -> None:
    asked_at: list[float] = []

    async def ask(unit: Unit) -> None:
        asked_at.append(time.monotonic())
        if len(asked_at) < 5:
            raise ServiceRateLimited("asking the gateway: too many requests", retry_after_s=ASKED_S)
        unit.count("asked", len(unit.records))

    run = Run(ask, [b"a"])
    await run.until(lambda: len(asked_at) == 5)
    await run.session.close()
    assert all(later - earlier >= ASKED_S for earlier, later in pairwise(asked_at))
