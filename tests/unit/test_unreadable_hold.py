"""A partition held at what cannot be read: its reason is said and counted when it comes up, not at every look."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streams.engine.exactly_once.inbox import Batch, Fault
from streams.engine.ports import NullObserver, Unit
from tests.session_run import PARTITION, TOPIC, Run


class Failures(NullObserver):
    """Keeps what failed."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []

    def failed(self, stage: str, kind: str) -> None:
        self.errors.append((stage, kind))


async def leave(unit: Unit) -> None: ...


def look(run: Run, faults: Sequence[Fault | None]) -> None:
    for fault in faults:
        run.session.push(Batch(TOPIC, PARTITION, 1, 1, 1, (), fault))


async def test_the_same_reason_is_told_once_and_again_after_the_partition_could_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observer = Failures()
    run = Run(leave, [b"1"], observer=observer)
    fault = Fault(1, 2, "CorruptRecordException")
    look(run, [fault] * 3)
    assert "cannot be read at offset 1 (CorruptRecordException)" in run.session.held_reason
    assert not run.session.hungry
    assert observer.errors == [("stage", "CorruptRecordException")]
    assert [record.message for record in caplog.records] == ["partition held"]
    look(run, [Fault(1, 2, "UnsupportedCodecError")])
    assert "(UnsupportedCodecError)" in run.session.held_reason
    look(run, [None])
    assert run.session.held_reason == ""
    look(run, [fault])
    assert [kind for _, kind in observer.errors] == [fault.error, "UnsupportedCodecError", fault.error]
    await run.session.close()
