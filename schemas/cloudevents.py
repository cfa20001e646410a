"""CloudEvents 1.0 headers of the public topics, in Kafka's binary mode: attributes as headers, data as value.

Used on `prompts` (by replay), `prompts-rejected`, `evolution-events` and `refinements`. `ce_id` is the id of
the prompt, event or refinement, so a consumer that drops repeats by (`ce_source`, `ce_id`) needs nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

SPECVERSION = b"1.0"
CONTENT_TYPE = b"application/json"

# Types carry the version of the data's shape, not of the program.
PROMPT_SUBMITTED = "promptloom.prompt.submitted.v1"
PROMPT_REJECTED = "promptloom.prompt.rejected.v1"
TEMPLATE_EVOLVED = "promptloom.template.evolved.v1"
TEMPLATE_REFINED = "promptloom.template.refined.v1"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def headers(
    *, event_id: str, event_type: str, source: str, time_ms: int, subject: str = ""
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of one event.

    `source` is a URI reference such as `/promptloom/canonicalization`. `subject` names what the event is
    about (a tenant, a tenant's cluster) and is percent-encoded where the standard's header rule asks for it.
    """
    if not (event_id and event_type and source):
        raise ValueError("a CloudEvent needs an id, a type and a source")
    attributes = (
        ("ce_specversion", SPECVERSION),
        ("ce_id", _header_value(event_id)),
        ("ce_type", _header_value(event_type)),
        ("ce_source", _header_value(source)),
        ("ce_time", rfc3339(time_ms).encode()),
        ("content-type", CONTENT_TYPE),
    )
    return (*attributes, ("ce_subject", _header_value(subject))) if subject else attributes


def rfc3339(time_ms: int) -> str:
    """Return a time in UTC with milliseconds, such as `2026-01-31T08:15:00.250Z`."""
    moment = EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _header_value(text: str) -> bytes:
    """Encode an attribute.

    Kafka's binding takes UTF-8 as it is; control characters and lone surrogates have no place in an
    attribute and are percent-encoded (with the percent sign itself, so that it can be undone).
    """
    if text.isprintable() and "%" not in text:
        return text.encode()
    return quote(text, safe="/:@ ", errors="surrogatepass").encode()
