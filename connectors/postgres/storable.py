"""What Postgres cannot hold, and what is stored instead.

    U+0000 in text or inside jsonb         U+2400 (␀)
    a lone surrogate                       U+FFFD
    a moment outside the years 1 to 9999   the nearer end
    NaN and infinity inside jsonb          null

Kafka and every decision keep the original. A prompt, its template and its slot values change alike, so the
stored template filled with the stored slots is still the stored text. A prompt that held U+0000 says so:
`metadata.promptloom.nul_characters` counts them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson

NUL_SYMBOL = "\u2400"
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
# An escaped backslash is taken along, so that a literal backslash before `u0000` is not read as an escape.
NUL_ESCAPE = re.compile(r"\\\\|\\u0000")

# Years 1 and 9999, a day inside, so that no time zone of a reader overflows.
MOMENT_MS_MIN = -62_135_510_400_000
MOMENT_MS_MAX = 253_402_214_400_000


def text(value: str) -> str:
    """Return the text with what Postgres refuses replaced."""
    if "\0" in value:
        value = value.replace("\0", NUL_SYMBOL)
    return value if value.isascii() else LONE_SURROGATE.sub(REPLACEMENT, value)


def json(value: Any) -> str:
    """Return a value as JSON that jsonb takes."""
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:  # a lone surrogate somewhere inside
        encoded = orjson.dumps(_without_surrogates(value))
    return json_text(encoded.decode())


def json_text(encoded: str) -> str:
    """Return JSON that was encoded elsewhere so that jsonb takes it."""
    if "\\u0000" not in encoded:
        return encoded
    return NUL_ESCAPE.sub(lambda found: NUL_SYMBOL if found[0] == "\\u0000" else found[0], encoded)


def moment(at_ms: int) -> datetime:
    """Return milliseconds since the epoch as a timestamp."""
    return datetime.fromtimestamp(min(max(at_ms, MOMENT_MS_MIN), MOMENT_MS_MAX) / 1000, UTC)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(key): _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(inner) for inner in value]
    return value
