"""Make the record of `prompts` for a row of a file, or say why there is none.

A row is checked by decoding its record exactly as the consumer will (`ingest.decode`): what would become
a dead letter there is a bad line here.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.dataset import BadLine, PromptFile, Row
from schemas import cloudevents
from schemas.errors import InputError
from schemas.ids import prompt_id_of_line
from schemas.limits import RECORD_BYTES_MAX
from schemas.prompts import PromptSubmitted
from schemas.topics import PROMPTS
from streams.engine.ports import Headers, Record
from streams.prompts import ingest

CE_SOURCE = "/promptloom/replay"
TENANT_DEFAULT = str(PromptSubmitted.model_fields["tenant"].default)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record ready to be sent; its key is the tenant."""

    tenant: str
    value: bytes
    headers: Headers


def record_of(row: Row, file: PromptFile, sha256: str, *, tenant: str = "") -> Outgoing | BadLine:
    """Return the record of a row. `sha256` is the file's; a `tenant` given here replaces the row's own."""
    fields = _completed(row, file, sha256, tenant)
    try:
        value = _encoded(fields)
        if len(value) > RECORD_BYTES_MAX:
            return BadLine(row.number, f"a record of {len(value)} bytes; the limit is {RECORD_BYTES_MAX}")
        prompt = ingest.decode(Record(PROMPTS.name, 0, 0, time.time_ns() // 1_000_000, None, value), _NoSchemas())
    except (InputError, TypeError, ValueError) as error:
        return BadLine(row.number, str(error), str(fields.get("text") or ""))
    headers = cloudevents.headers(
        event_id=prompt.prompt_id,
        event_type=cloudevents.PROMPT_SUBMITTED,
        source=CE_SOURCE,
        time_ms=prompt.created_at_ms,
        subject=prompt.tenant,
    )
    return Outgoing(prompt.tenant, value, headers)


def _completed(row: Row, file: PromptFile, sha256: str, tenant: str) -> dict[str, Any]:
    """Return the fields to send: with an id, a tenant and a source."""
    fields = {name: value for name, value in row.fields.items() if value is not None}
    identity = fields.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)  # a number is common as an id in tables; on the wire an id is text
    fields["id"] = identity or prompt_id_of_line(sha256, row.number)
    fields["tenant"] = tenant or fields.get("tenant") or file.tenant or TENANT_DEFAULT
    fields["source"] = fields.get("source") or file.path.name
    return fields


def _encoded(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:
        # orjson refuses lone surrogates; as escapes they arrive, and are mended where prompts are decoded.
        return json.dumps(fields).encode()


class _NoSchemas:
    """What knows no schema: the records made here are JSON, which needs none."""

    def known(self, reference: str) -> None:  # noqa: ARG002  the protocol's signature
        return None
