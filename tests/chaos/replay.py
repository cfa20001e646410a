"""One replay: run a scenario from an empty folder to its verdict.

The load runs while the faults of both lanes happen. Then comes quiet: what was sent is acknowledged, every prompt
reaches its end, every stage and the sink have committed up to the last record. Only then the topics are
read and compared; what hangs for longer than the patience of this module is a finding, not an excuse.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.processes import wait_until
from schemas.topics import TOPICS
from streams.prompts import postgres_rows
from tests.chaos import catalogue, checks, harvest, offsets, oracle
from tests.chaos.checks import Finding
from tests.chaos.evidence import evidence
from tests.chaos.fleet import Exit
from tests.chaos.harvest import Harvest, Place
from tests.chaos.lane import Lane, Struck, recovery_s
from tests.chaos.rig import Rig, Say, running
from tests.chaos.scenarios import Scenario
from tests.chaos.watch import Mark

FIRST_OUTPUT_WITHIN_S = 120.0
QUIET_WITHIN_S = 75.0  # without any progress
POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class FaultResult:
    """One fault as it went. `recovery_s` None = some partition never went on."""

    name: str
    side: str
    recovery_s: float | None
    overlapped: bool
    problem: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What one replay showed."""

    scenario: str
    seed: int
    prompts: int
    seconds: float
    starts: int
    faults: list[FaultResult]
    findings: list[Finding]
    exits: list[Exit]
    evidence: dict[str, int]  # that the faults bit
    problems: list[str] = field(default_factory=list)  # what kept the replay from its end

    @property
    def clean(self) -> bool:
        return not self.problems and all(each.clean for each in self.findings)


def replay(scenario: Scenario, seed: int, folder: Path, say: Say) -> Result:
    """Run one scenario; whatever goes wrong stands in the result."""
    started_at = time.monotonic()
    with running(folder, scenario.conditions, seed=seed, say=say) as rig:
        problems, struck = disturb(rig, scenario, seed)
        rig.load.stop()
        say(f"{rig.load.sent} prompts sent; waiting for quiet")
        problems += rig.load.failures + _await_quiet(rig)
        problems += [f"{each.fault.name}: some partition never went on" for each in struck if not _recovered(rig, each)]
        # Nobody is needed for the comparison, and on a small machine everybody would slow it down.
        rig.watch.close()
        rig.fleet.rest()
        found = verdict(rig, seed)
        last = Lane(rig, scenario.after, "after", seed)
        last.strike_all()
        struck += last.struck
        return Result(
            scenario=scenario.name,
            seed=seed,
            prompts=rig.load.sent,
            seconds=round(time.monotonic() - started_at, 1),
            starts=rig.fleet.starts,
            faults=[_told(rig, each) for each in struck],
            findings=found,
            exits=list(rig.fleet.exits),
            evidence=evidence(rig.fleet.log_folder),
            problems=problems + [f"{each.fault.name}: {each.problem}" for each in struck if each.problem],
        )


def disturb(rig: Rig, scenario: Scenario, seed: int) -> tuple[list[str], list[Struck]]:
    """Wait until everything works, then strike the faults of both lanes; return problems, and what was struck."""
    if not wait_until(lambda: _under_way(rig), FIRST_OUTPUT_WITHIN_S):
        return ["no prompt came through at the start"], []
    order = random.Random(f"order {scenario.name} {seed}")
    lanes = []
    for side, faults in (("stream", list(scenario.stream)), ("catalogue", list(scenario.catalogue))):
        order.shuffle(faults)
        lanes.append(Lane(rig, faults, f"{scenario.name} {side}", seed))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return [], [struck for lane in lanes for struck in lane.struck]


def verdict(rig: Rig, seed: int) -> list[Finding]:
    """Read everything and compare it with the undisturbed run."""
    recorded = harvest.gather(rig.connection, [*(topic.name for topic in TOPICS), *rig.changelogs])
    rig.say("comparing with the undisturbed run")

    app_id = rig.settings.engine.app_id
    sources = [topic for topic, _ in rig.agents.stages.values()]
    owners = {f"{app_id}-{name}-changelog": table.owner for name, table in rig.agents.tables.items()}
    places = [(topic, number) for topic in sources for number in range(rig.settings.kafka.partitions)]
    of_offsets = offsets.findings(recorded, sources, owners, harvest.committed(rig.connection, app_id, places))

    async def compare() -> list[Finding]:
        expected = await oracle.undisturbed(rig.agents, recorded, seed)
        of_topics = checks.findings(recorded, expected, rig.load.sent, app_id, rig.settings.kafka.partitions)
        return of_offsets + of_topics + await catalogue.findings(rig.dsn, recorded)

    return asyncio.run(compare())


def _under_way(rig: Rig) -> bool:
    nothing_before = Mark(0.0, {})
    return all(rig.watch.recovered_at(side, nothing_before) is not None for side in ("stream", "catalogue"))


def _await_quiet(rig: Rig) -> list[str]:
    """Wait until everything sent has its end and every reader has committed to the last record."""
    progress, since = -1, time.monotonic()
    while len(rig.watch.settled) < rig.load.sent:
        if len(rig.watch.settled) != progress:
            progress, since = len(rig.watch.settled), time.monotonic()
        if time.monotonic() - since > QUIET_WITHIN_S:
            return [f"{rig.load.sent - progress} prompts have no end, and nothing moves for {QUIET_WITHIN_S:g} s"]
        time.sleep(POLL_S)
    since = time.monotonic()
    while behind := _behind(rig):
        if time.monotonic() - since > QUIET_WITHIN_S:
            return [f"not read to the end: {behind[:5]}"]
        time.sleep(POLL_S)
    return []


def _behind(rig: Rig) -> list[tuple[str, Place]]:
    """Return (reader, place) of everything that is written and not yet committed by a reader of it."""
    stage_topics = [topic for topic, _ in rig.agents.stages.values()]
    recorded: Harvest = harvest.gather(rig.connection, [*stage_topics, *postgres_rows.TOPICS])
    ends = {
        (topic, number): recorded.last_offset((topic, number)) + 1
        for topic, partitions in recorded.records.items()
        for number in partitions
    }
    wanted = [place for place in ends if place[0] in stage_topics]
    stages = harvest.committed(rig.connection, rig.settings.engine.app_id, wanted)
    written = catalogue.reached(rig.dsn)
    return [("stage", place) for place in wanted if stages.get(place, -1) < ends[place]] + [
        ("sink", place)
        for place, end in ends.items()
        if place[0] in postgres_rows.TOPICS and written.get(place, 0) < end
    ]


def _recovered(rig: Rig, struck: Struck) -> bool:
    return bool(struck.problem or struck.skipped) or recovery_s(rig, struck) is not None


def _told(rig: Rig, struck: Struck) -> FaultResult:
    return FaultResult(
        struck.fault.name, struck.fault.side, recovery_s(rig, struck), struck.overlapped, struck.problem, struck.skipped
    )
