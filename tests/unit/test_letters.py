"""Dead letters as they are read back: what their headers say, and which of them a filter means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.errors import InvalidPrompt
from schemas.limits import RECORD_BYTES_MAX
from streams.engine.dead_letter import DeadLetters
from streams.engine.letters import DeadLetter, FilterInvalid, Filters, Place, place, read
from streams.engine.ports import Record

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR_MS = 3_600_000


def a_letter(
    *, stage: str = "moderation", value: bytes = b'{"tenant":"acme"}', age_ms: int = 0, key: bytes | None = b"k"
) -> DeadLetter:
    record = Record("prompts", 3, 204, 0, key, value, (("trace", b"7"),))
    letter = DeadLetters("dead-letters", 8).letter(record, InvalidPrompt("too long"), stage)
    return read(Record(letter.topic, letter.partition, 17, NOW_MS - age_ms, letter.key, letter.value, letter.headers))


def passes(letter: DeadLetter, *filters: str) -> bool:
    return Filters(filters, NOW).passes(letter)


def test_a_letter_tells_what_its_headers_say_and_keeps_its_own_apart() -> None:
    letter = a_letter()
    assert (letter.stage, letter.error, letter.message) == ("moderation", "InvalidPrompt", "too long")
    assert (letter.place, letter.origin) == (Place("dead-letters", 3, 17), Place("prompts", 3, 204))
    assert (letter.headers, letter.cut, letter.tenant) == ((("trace", b"7"),), False, "acme")


def test_a_value_that_was_cut_is_known_by_its_length() -> None:
    letter = a_letter(value=b"x" * RECORD_BYTES_MAX)
    assert (letter.cut, letter.value_bytes) == (True, RECORD_BYTES_MAX)


def test_headers_begin_as_the_app_says_and_others_are_its_own() -> None:
    came = (("__errors.stage", b"mine"), ("app-stage", b"of an earlier life"))
    record = Record("prompts", 3, 204, 0, None, b"", came)
    letter = DeadLetters("dead-letters", 8, "app-").letter(record, InvalidPrompt("too long"), "moderation")
    found = read(Record(letter.topic, 0, 1, 0, None, None, letter.headers), "app-")
    assert (found.stage, found.origin) == ("moderation", Place("prompts", 3, 204))
    assert found.headers == came[:1]


@pytest.mark.parametrize("headers", [(), (("__errors.offset", b"x"),), (("__errors.topic", b""),)])
def test_a_record_that_is_no_letter_is_read_all_the_same(headers: tuple[tuple[str, bytes], ...]) -> None:
    letter = read(Record("dead-letters", 0, 1, 0, None, None, headers))
    assert (letter.origin, letter.stage, letter.tenant) == (None, "", "")


@pytest.mark.parametrize(
    ("value", "key", "tenant"),
    [
        (b'{"tenant":"acme"}', b"k", "acme"),
        (b'{"text":"a"}', b"k", "k"),
        (b"[1]", b"k", "k"),
        (b"\xff{", None, ""),
        (b'{"tenant":7}', b"k", "k"),
    ],
)
def test_the_tenant_is_what_the_value_says_and_otherwise_the_key(value: bytes, key: bytes | None, tenant: str) -> None:
    assert a_letter(value=value, key=key).tenant == tenant


@pytest.mark.parametrize(
    "filters",
    [
        (),
        ("stage=moderation",),
        ("stage=clustering", "stage=moderation"),
        ("error=InvalidPrompt", "topic=prompts", "tenant=acme", "key=k"),
        ("position=dead-letters-3-17",),
        ("position=3-17",),
        ("position=prompts-3-204",),
        ("after=2h", "before=30m"),
        ("after=2026-05-01T13:00+02:00", "before=2026-05-01 11:30"),
    ],
)
def test_a_letter_passes_what_it_fits(filters: tuple[str, ...]) -> None:
    assert passes(a_letter(age_ms=HOUR_MS), *filters)


@pytest.mark.parametrize(
    "filters",
    [
        ("stage=clustering",),
        ("stage=moderation", "error=Other"),
        ("tenant=k",),
        ("position=3-204",),
        ("position=prompts-3-17",),
        ("after=30m",),
        ("before=2026-05-01",),
    ],
)
def test_a_letter_does_not_pass_what_it_does_not_fit(filters: tuple[str, ...]) -> None:
    assert not passes(a_letter(age_ms=HOUR_MS), *filters)


def test_reading_can_begin_at_the_earliest_time_that_is_meant() -> None:
    assert Filters(["after=1h"], NOW).after_ms == NOW_MS - HOUR_MS
    assert Filters(["stage=a"], NOW).after_ms == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("colour=red", "'colour=red'"),
        ("stage", "'stage'"),
        ("after=tomorrow", "'tomorrow'"),
        ("position=here", "'here'"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(FilterInvalid, match=problem):
        Filters([text], NOW)


def test_a_place_is_a_topic_a_partition_and_an_offset() -> None:
    assert place("dead-letters-3-17") == Place("dead-letters", 3, 17)
    assert place("3-17") == Place("", 3, 17)
    assert place("prompts") is place("-1") is place("prompts-3") is None
