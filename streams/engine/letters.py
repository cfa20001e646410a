"""Dead letters as they are read back: where each came from, why, and which of them somebody means.

A letter has two places: its own in the topic of dead letters, and that of the record it was made of. Either
names it, written `topic-partition-offset`; `3-17` alone is a place among the dead letters.

Filters are written `name=value`, and a letter must pass all of them. Those of one name are alternatives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from schemas.errors import PromptloomError
from streams.engine.dead_letter import HEADER_PREFIX_DEFAULT
from streams.engine.ports import Headers, Record

PLACE = re.compile(r"(?:(?P<topic>.+)-)?(?P<partition>\d{1,10})-(?P<offset>\d{1,18})")
AGO = re.compile(r"(\d{1,6})\s*([smhd])")
AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class FilterInvalid(PromptloomError):
    """A filter that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Place:
    """A record of a topic; an empty topic is that of the dead letters."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}" if self.topic else f"{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A letter and what its headers say. `record` is the letter itself, `headers` are those it came with."""

    record: Record
    stage: str
    error: str
    message: str
    origin: Place | None  # None: the headers do not say
    headers: Headers
    value_bytes: int  # of the original value, which was cut where it is more than the letter has

    @property
    def place(self) -> Place:
        return Place(self.record.topic, self.record.partition, self.record.offset)

    @property
    def cut(self) -> bool:
        return self.value_bytes > len(self.record.value or b"")

    @property
    def tenant(self) -> str:
        """The tenant as a JSON value names it, otherwise the key; '' where neither tells."""
        try:
            fields = orjson.loads(self.record.value or b"")
        except orjson.JSONDecodeError:
            fields = None
        if isinstance(fields, dict) and isinstance(fields.get("tenant"), str):
            return str(fields["tenant"])
        return self.key

    @property
    def key(self) -> str:
        return (self.record.key or b"").decode("utf-8", "replace")


def read(record: Record, header_prefix: str = HEADER_PREFIX_DEFAULT) -> DeadLetter:
    """Return a record of the dead letters as a letter; whatever its headers lack stays empty.

    `header_prefix` is the one the letters were written with.
    """
    said = {
        name.removeprefix(header_prefix): (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(header_prefix)
    }
    origin = place(f"{said.get('topic', '')}-{said.get('partition', '')}-{said.get('offset', '')}")
    length = said.get("value_bytes", "")
    return DeadLetter(
        record=record,
        stage=said.get("stage", ""),
        error=said.get("exception", ""),
        message=said.get("message", ""),
        origin=origin if origin is not None and origin.topic else None,
        headers=tuple((name, value) for name, value in record.headers if not name.startswith(header_prefix)),
        value_bytes=int(length) if length.isdecimal() else len(record.value or b""),
    )


def place(text: str) -> Place | None:
    """Return the place that `topic-partition-offset` or `partition-offset` names; None where it names none."""
    found = PLACE.fullmatch(text)
    return Place(found["topic"] or "", int(found["partition"]), int(found["offset"])) if found else None


class Filters:
    """Which letters are meant. `after_ms` is the earliest time of a letter, so that reading can begin there."""

    def __init__(self, written: Iterable[str], now: datetime) -> None:
        """Understand filters; times without a zone are UTC, and `2h` is two hours before `now`.

        Raises:
            FilterInvalid: a filter has no such name or value.
        """
        starts_ms: list[int] = []
        self._tests: defaultdict[str, list[Callable[[DeadLetter], bool]]] = defaultdict(list)
        for text in written:
            name, equals, value = text.partition("=")
            if not equals or name not in MEANINGS:
                raise FilterInvalid(
                    f"reading the filter {text!r}: it is no NAME=VALUE of a known name",
                    hint="known names: " + ", ".join(MEANINGS),
                )
            self._tests[name].append(MEANINGS[name](value, now))
            if name == "after":
                starts_ms.append(_time_ms(value, now))
        self.after_ms = min(starts_ms, default=0)

    def passes(self, letter: DeadLetter) -> bool:
        return all(any(test(letter) for test in tests) for tests in self._tests.values())


def _time_ms(value: str, now: datetime) -> int:
    ago = AGO.fullmatch(value)
    if ago:
        at = now - timedelta(**{AGO_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise FilterInvalid(
                f"reading the time {value!r}: it is neither a date nor a time ago",
                hint="write 2026-05-01, 2026-05-01T12:30, 2026-05-01T12:30+02:00, or 90s, 30m, 2h, 3d ago",
            ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _same(told: Callable[[DeadLetter], str]) -> Callable[[str, datetime], Callable[[DeadLetter], bool]]:
    return lambda value, _: lambda letter: told(letter) == value


def _at(value: str, _: datetime) -> Callable[[DeadLetter], bool]:
    wanted = place(value)
    if wanted is None:
        raise FilterInvalid(f"reading the place {value!r}", hint="write prompts-3-17, or 3-17 of the dead letters")
    return lambda letter: is_at(letter, wanted)


def is_at(letter: DeadLetter, wanted: Place) -> bool:
    """Return whether the letter, or the record it was made of, stands at a place."""
    own = letter.place
    return wanted in (own, Place("", own.partition, own.offset), letter.origin)


def _after(value: str, now: datetime) -> Callable[[DeadLetter], bool]:
    earliest_ms = _time_ms(value, now)
    return lambda letter: letter.record.timestamp_ms >= earliest_ms


def _before(value: str, now: datetime) -> Callable[[DeadLetter], bool]:
    end_ms = _time_ms(value, now)
    return lambda letter: letter.record.timestamp_ms < end_ms


MEANINGS: Mapping[str, Callable[[str, datetime], Callable[[DeadLetter], bool]]] = {
    "stage": _same(lambda letter: letter.stage),
    "error": _same(lambda letter: letter.error),
    "topic": _same(lambda letter: letter.origin.topic if letter.origin else ""),
    "tenant": _same(lambda letter: letter.tenant),
    "key": _same(lambda letter: letter.key),
    "position": _at,
    "after": _after,
    "before": _before,
}
