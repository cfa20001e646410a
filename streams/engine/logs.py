"""Structured logs: one JSON object a line, with a correlation id, and never a secret or a prompt.

Rules
  * A message is a lower-case fragment; values go into `extra={...}` and come out as fields.
  * `correlate(...)` names the work at hand (stage, partition, offset, prompt id); every line
    logged inside carries it, whichever library logs.
  * A field whose name says it may hold a secret or a prompt's text is masked, and credentials inside
    URLs are cut, wherever they appear.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

MASK = "[redacted]"
SECRET_NAMES = re.compile(
    r"(password|secret|api_?key|virtual_?key|token$|authorization|dsn|^text$|^content$|^messages$|^value$|^prompt$)",
    re.I,
)
CREDENTIALS_IN_URL = re.compile(r"(\w+://[^\s:/@]*:)[^\s@/]+(@)")
BEARER = re.compile(r"(?i)\b(bearer\s+|sk-|pk-)[\w.\-]{8,}")
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
FIELD_CHARS_MAX = 2_000  # a longer value is cut, so that no log line can carry a prompt by accident

NOISY = (
    "aiokafka", "faust", "mode", "kafka", "httpx", "httpcore", "asyncio", "alembic",
    "portkey_ai",  # at DEBUG it logs whole requests, and prompts with them
    # Faust's services log each start and stop under the module of their class.
    "streams.engine.app", "streams.engine.tables", "streams.engine.exactly_once.transport",
)  # fmt: skip

# What a Kafka client meets while topics and coordinators are being made or are moving, and tries again every
# 100 ms, with an error line each time. Said only when it lasts.
PASSING = re.compile(
    r"(NotLeaderForPartition|LeaderNotAvailable|Coordinator(NotAvailable|LoadInProgress)|NotCoordinator)"
)
PATIENCE_S = 10.0
MESSAGE_KEY_CHARS = 80  # lines that begin alike are the same trouble; clients format offsets and hosts into the end
MESSAGES_REMEMBERED_MAX = 1_000

_correlation: ContextVar[dict[str, object]] = ContextVar("correlation", default={})  # noqa: B039  never mutated


@contextmanager
def correlate(**fields: object) -> Iterator[None]:
    """Add fields to every line logged inside."""
    token = _correlation.set({**_correlation.get(), **fields})
    try:
        yield
    finally:
        _correlation.reset(token)


def configure(level: str, style: Literal["json", "console"], *, instance: str = "") -> None:
    """Send all logs of the process to standard error in one format; `instance` names it in every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    handler.addFilter(PassingFilter())
    handler.addFilter(RepeatFilter())
    if instance:
        handler.addFilter(InstanceFilter(instance))
    root.setLevel(level)
    # The clients log every rebalance and reconnect at INFO; the engine logs what matters of it.
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def redact(text: str) -> str:
    """Cut credentials out of a text and bound its length."""
    cut = BEARER.sub(MASK, CREDENTIALS_IN_URL.sub(rf"\1{MASK}\2", text))
    return cut if len(cut) <= FIELD_CHARS_MAX else cut[:FIELD_CHARS_MAX] + "…"


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the redacted fields of a line, correlation first."""
    own = {key: value for key, value in vars(record).items() if key not in STANDARD_FIELDS}
    return {key: _clean(key, value) for key, value in {**_correlation.get(), **own}.items()}


def _clean(key: str, value: object) -> object:
    if SECRET_NAMES.search(key):
        return MASK
    if isinstance(value, bool | int | float) or value is None:
        return value
    return redact(str(value))


class PassingFilter(logging.Filter):
    """Keeps back what a Kafka client says of passing troubles; what lasts is said once every PATIENCE_S."""

    def __init__(self) -> None:
        super().__init__()
        self._kept_back: dict[tuple[str, str], tuple[float, float]] = {}  # since when, and when last, by message

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or not PASSING.search(record.getMessage()):
            return True
        key = record.name, str(record.msg)
        since, last = self._kept_back.get(key, (record.created, record.created))
        if record.created - last > PATIENCE_S:  # it went away in between
            since = record.created
        lasts = record.created - since >= PATIENCE_S
        self._kept_back[key] = record.created if lasts else since, record.created
        return lasts


class RepeatFilter(logging.Filter):
    """Says what a library repeats once every PATIENCE_S, with the number of lines kept back in between.

    While a broker is away, clients try each connection again and again, and say so thousands of times a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when last, and kept back since, by message

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(NOISY) or record.levelno < logging.WARNING:
            return True
        key = record.name, str(record.msg)[:MESSAGE_KEY_CHARS]
        said_at, kept_back = self._said.get(key, (-PATIENCE_S, 0))
        if record.created - said_at < PATIENCE_S:
            self._said[key] = said_at, kept_back + 1
            return False
        if len(self._said) >= MESSAGES_REMEMBERED_MAX:
            self._said.clear()  # said again once more than needed, at worst
        self._said[key] = record.created, 0
        if kept_back:
            record.kept_back = kept_back
        return True


class InstanceFilter(logging.Filter):
    """Names the process in each line, whichever thread logs: several may write to one file."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self._instance = instance

    def filter(self, record: logging.LogRecord) -> bool:
        record.instance = self._instance
        return True


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        extra = " ".join(f"{key}={value}" for key, value in fields_of(record).items())
        line = f"{at} {record.levelname.lower():7} {redact(record.getMessage())} {extra}".rstrip()
        return f"{line}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else line
