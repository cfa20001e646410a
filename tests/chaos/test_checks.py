"""Can the checks fail? Each kind of damage, done to what an undisturbed run left, is found, and named rightly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from schemas.prompts import CanonicalizedFrame, ClusteredFrame, EmbeddedFrame, SlotStatistics
from schemas.topics import (
    DEAD_LETTERS,
    ERROR_HEADER_PREFIX,
    EVOLUTION_EVENTS,
    PROMPTS,
    PROMPTS_CANONICALIZED,
    PROMPTS_CLUSTERED,
    PROMPTS_EMBEDDED,
    PROMPTS_REJECTED,
    REFINEMENTS,
    TEMPLATES,
)
from streams.engine import frames
from streams.engine.dead_letter import DeadLetters
from streams.engine.ports import Record
from streams.engine.tables import POSITION_HEADER
from streams.settings import KafkaSettings, ModerationSettings, Settings
from tests.chaos import checks, offsets, oracle
from tests.chaos.harvest import Harvest
from tests.chaos.load import NUMBER_HEADER, STRICT, submissions
from tests.chaos.oracle import Undisturbed

PARTITIONS = 2
PROMPTS_SENT = 500
APP = "app"
CHANGELOG = f"{APP}-rows-changelog"
NOON_MS = 1_760_000_000_000

Damage = Callable[[Harvest], None]
Run = tuple[Harvest, Undisturbed]


@pytest.fixture(scope="module")
def run() -> Run:
    """Return the records an undisturbed run leaves, and what the oracle makes of them."""
    settings = Settings.model_construct(
        kafka=KafkaSettings(partitions=PARTITIONS), moderation=ModerationSettings(tenants={STRICT: {"all": 0.0}})
    )
    recorded = Harvest()
    for number, submission in enumerate(islice(submissions(PARTITIONS, random.Random(1)), PROMPTS_SENT)):
        headers = ((NUMBER_HEADER, b"%d" % number),)
        add(recorded, PROMPTS.name, submission.partition, submission.key, submission.value, headers)
    # Two topics are read as recorded, so the first pass finds what comes before them, the second one the rest.
    first = asyncio.run(oracle.undisturbed(oracle.attached(settings, poison=True), recorded, seed=1))
    publish(recorded, first, {PROMPTS_EMBEDDED.name, PROMPTS_REJECTED.name})
    expected = asyncio.run(oracle.undisturbed(oracle.attached(settings, poison=True), recorded, seed=2))
    publish(recorded, expected, set(checks.STATEMENTS) - {PROMPTS_EMBEDDED.name, PROMPTS_REJECTED.name})
    letters = DeadLetters(DEAD_LETTERS.name, PARTITIONS, ERROR_HEADER_PREFIX)
    for each in expected.letters:
        letter = letters.letter(each.record, each.error, each.stage)
        add(recorded, letter.topic, letter.partition, letter.key, letter.value, letter.headers)
    for name, table in expected.tables.items():
        for partition, rows in table.rows.items():
            for key, row in rows.items():
                add(recorded, f"{APP}-{name}-changelog", partition, key.encode(), row)
    return recorded, expected


def test_an_undisturbed_run_is_clean_whatever_its_units_were(run: Run) -> None:
    recorded, expected = run
    assert dirty(recorded, expected) == {}
    assert all(finding.compared for finding in checks.findings(recorded, expected, PROMPTS_SENT, APP, PARTITIONS))


def test_a_prompt_left_out_is_lost(run: Run) -> None:
    assert damaged(run, without_a_prompt)["prompts-canonicalized"] == (1, 0, 0)
    assert damaged(run, without_a_prompt)["every prompt ends once"] == (1, 0, 0)


def test_an_event_published_twice_is_doubled(run: Run) -> None:
    assert damaged(run, with_a_record_twice(EVOLUTION_EVENTS.name)) == {"evolution-events": (0, 1, 0)}


def test_a_frame_published_twice_is_doubled_wherever_it_counts(run: Run) -> None:
    found = damaged(run, with_a_record_twice(PROMPTS_CANONICALIZED.name))
    assert set(found) == {"prompts-canonicalized", "every prompt ends once", "chains without a gap"}
    assert all(doubled for _, doubled, _ in found.values())


def test_statistics_of_slots_that_nobody_told_are_too_many(run: Run) -> None:
    def tell(recorded: Harvest) -> None:
        records = recorded.records[PROMPTS_CANONICALIZED.name][0]
        frame = frames.decode(CanonicalizedFrame, records[0].value or b"")
        made_up = SlotStatistics(tenant="acme", cluster_id="c", template_id="t", version="1.0.0", slots_json="[]")
        records[0] = replace(records[0], value=frames.encode(frame.model_copy(update={"statistics": (made_up,)})))

    assert damaged(run, tell) == {"prompts-canonicalized": (0, 1, 0)}


def test_a_letter_left_out_is_lost(run: Run) -> None:
    found = damaged(run, lambda recorded: pop(recorded, DEAD_LETTERS.name))
    assert found["dead-letters"] == (1, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [{"key": b"other"}, {"headers": (("own", b"added"),)}, {"value": b"other"}],
    ids=lambda each: next(iter(each)),
)
def test_a_letter_that_is_not_as_its_record_came_is_different(run: Run, changes: dict[str, Any]) -> None:
    def change(recorded: Harvest) -> None:
        records = next(each for each in recorded.records[DEAD_LETTERS.name].values() if each)
        added = changes.get("headers", ())
        records[0] = replace(records[0], **{**changes, "headers": (*records[0].headers, *added)})

    assert damaged(run, change)["dead-letters"] == (0, 0, 1)


def test_a_record_in_a_topic_that_nobody_compares_is_too_many(run: Run) -> None:
    found = damaged(run, lambda recorded: add(recorded, REFINEMENTS.name, 0, b"key", b"value"))
    assert found == {"no records where none belong": (0, 1, 0)}


def test_a_comparison_of_nothing_with_nothing_is_not_clean(run: Run) -> None:
    recorded, expected = deepcopy(run[0]), replace(run[1], sent={**run[1].sent, EVOLUTION_EVENTS.name: {}})
    recorded.records[EVOLUTION_EVENTS.name].clear()
    assert dirty(recorded, expected) == {EVOLUTION_EVENTS.name: (0, 0, 1)}


def about_offsets(committed: int, position: int, *, end: int = 4) -> dict[str, int]:
    """Return what is wrong where three records and a marker were worked off, and left a row."""
    recorded = Harvest(ends={(PROMPTS.name, 0): end})
    for _ in range(3):
        add(recorded, PROMPTS.name, 0, None, b"")
    add(recorded, CHANGELOG, 0, b"key", b"row", ((POSITION_HEADER, b"%d" % position),))
    found = offsets.findings(recorded, [PROMPTS.name], {CHANGELOG: PROMPTS.name}, {(PROMPTS.name, 0): committed})
    return {each.check: each.different for each in found if not each.clean}


def test_offsets_lie_behind_every_record_and_no_further_than_the_end() -> None:
    assert about_offsets(3, 3) == about_offsets(4, 3) == {}
    assert about_offsets(2, 2) == about_offsets(5, 3) == {"offsets committed to the end": 1}


def test_a_row_that_knows_of_records_after_the_offset_or_says_no_position_is_told() -> None:
    assert about_offsets(3, 4) == about_offsets(3, 0) == {"rows behind the offsets": 1}


def test_a_vector_of_another_prompt_is_different(run: Run) -> None:
    # What follows from the vectors is computed from those recorded, so only the embedding itself is wrong.
    assert "prompts-embedded" in damaged(run, with_vectors_turned)


def test_steps_in_another_order_are_different(run: Run) -> None:
    assert set(damaged(run, with_steps_turned)) == {"prompts-clustered"}


def test_a_row_that_differs_is_missing_or_too_many_is_told_by_its_table(run: Run) -> None:
    changelog = f"{APP}-centroids-changelog"

    def change(recorded: Harvest) -> None:
        records = recorded.records[changelog][0]
        records[0] = replace(records[0], value=b"other")

    assert damaged(run, change) == {"table centroids": (0, 0, 1)}
    assert damaged(run, lambda recorded: pop(recorded, changelog)) == {"table centroids": (1, 0, 0)}
    assert damaged(run, lambda recorded: add(recorded, changelog, 0, b"stray", b"row")) == {
        "table centroids": (0, 1, 0)
    }


def test_an_older_template_is_different(run: Run) -> None:
    def outdate(recorded: Harvest) -> None:
        records = recorded.of(TEMPLATES.name)
        add(recorded, TEMPLATES.name, records[0].partition, records[0].key, b"{}", records[0].headers)

    assert damaged(run, outdate) == {"templates": (0, 0, 1)}


def test_a_prompt_that_never_arrived_is_lost(run: Run) -> None:
    recorded, expected = run
    found = {each.check: each.lost for each in checks.findings(recorded, expected, PROMPTS_SENT + 1, APP, PARTITIONS)}
    assert found["prompts arrived"] == 1


def test_a_transaction_that_hangs_is_told(run: Run) -> None:
    def hang(recorded: Harvest) -> None:
        recorded.hanging[PROMPTS_EMBEDDED.name, 1] = 3

    assert damaged(run, hang) == {"no transaction hangs": (0, 0, 1)}


def add(
    recorded: Harvest,
    topic: str,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> None:
    records = recorded.records[topic][partition]
    records.append(Record(topic, partition, len(records), NOON_MS, key, value, headers))


def publish(recorded: Harvest, run: Undisturbed, topics: set[str]) -> None:
    for topic in topics:
        for partition, sent in run.sent[topic].items():
            for each in sent:
                add(recorded, topic, partition, each.key, each.value, tuple(each.headers))


def pop(recorded: Harvest, topic: str) -> None:
    next(records for records in recorded.records[topic].values() if records).pop()


def dirty(recorded: Harvest, expected: Undisturbed) -> dict[str, tuple[int, int, int]]:
    results = checks.findings(recorded, expected, PROMPTS_SENT, APP, PARTITIONS)
    return {each.check: (each.lost, each.doubled, each.different) for each in results if not each.clean}


def damaged(run: Run, damage: Damage) -> dict[str, tuple[int, int, int]]:
    """Return what the checks say after some damage, by check: (lost, doubled, different)."""
    recorded, expected = deepcopy(run[0]), run[1]
    damage(recorded)
    return dirty(recorded, expected)


def without_a_prompt(recorded: Harvest) -> None:
    records = recorded.records[PROMPTS_CANONICALIZED.name][0]
    for at, record in enumerate(records):
        frame = frames.decode(CanonicalizedFrame, record.value or b"")
        kept = [item for item in frame.prompts if item.assignment.sequence or item is not frame.prompts[0]]
        moved = {item.assignment.prompt.prompt_id for item in frame.prompts if item.assignment.sequence}
        if len(kept) < len(frame.prompts) and frame.prompts[0].assignment.prompt.prompt_id not in moved:
            records[at] = replace(record, value=frames.encode(frame.model_copy(update={"prompts": tuple(kept)})))
            return


def with_a_record_twice(topic: str) -> Damage:
    def damage(recorded: Harvest) -> None:
        last = next(records[-1] for records in recorded.records[topic].values() if records)
        add(recorded, topic, last.partition, last.key, last.value, last.headers)

    return damage


def with_vectors_turned(recorded: Harvest) -> None:
    records = recorded.records[PROMPTS_EMBEDDED.name][0]
    at = largest(records)
    frame = frames.decode(EmbeddedFrame, records[at].value or b"")
    size = len(frame.vectors) // len(frame.prompts)
    turned = frame.vectors[size:] + frame.vectors[:size]
    records[at] = replace(records[at], value=frames.encode(frame.model_copy(update={"vectors": turned})))


def with_steps_turned(recorded: Harvest) -> None:
    records = recorded.records[PROMPTS_CLUSTERED.name][0]
    at = largest(records)
    frame = frames.decode(ClusteredFrame, records[at].value or b"")
    turned = tuple(reversed(frame.steps))
    records[at] = replace(records[at], value=frames.encode(frame.model_copy(update={"steps": turned})))


def largest(records: list[Record]) -> int:
    return max(range(len(records)), key=lambda at: len(records[at].value or b""))
