"""Know other writers' schemas: from the topic `schemas` by fingerprint, from a registry by id.

Rules
  * What was found once is kept: a fingerprint or id never changes its meaning.
  * What nobody knew is not asked again for a moment. A flood of records with one wrong id must not
    become a flood of requests.
  * A schema that could bring the reader down (`schemas.avro.unsafe`) counts as not usable by anybody.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from fastavro import parse_schema

from connectors.kafka.registry import Registry
from schemas.avro import WriterSchema, unsafe
from schemas.errors import SchemaUnavailable

ENTRIES_MAX = 10_000  # references remembered, found and unknown each; a deployment has tens
UNKNOWN_FOR_S = 10.0


class ReadsSchemas(Protocol):
    async def read(self) -> dict[str, Any]: ...


class SchemaLookup:
    """Implements the port `WriterSchemas`."""

    def __init__(
        self,
        topic: ReadsSchemas,
        registry: Registry | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        self._entries_max = entries_max
        self._topic = topic
        self._registry = registry
        self._clock = clock
        self._found: OrderedDict[str, WriterSchema] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, SchemaUnavailable]] = OrderedDict()

    def known(self, reference: str) -> WriterSchema | None:
        """Return what was found before."""
        return self._found.get(reference)

    async def find(self, reference: str) -> WriterSchema:
        """Ask the topic or the registry."""
        if schema := self._found.get(reference):
            return schema
        if (unknown := self._unknown.get(reference)) and self._clock() - unknown[0] < UNKNOWN_FOR_S:
            raise unknown[1]
        try:
            schema = _readable(await self._ask(reference), reference)
        except SchemaUnavailable as error:
            _remember(self._unknown, reference, (self._clock(), error), self._entries_max)
            raise
        _remember(self._found, reference, schema, self._entries_max)
        return schema

    async def _ask(self, reference: str) -> WriterSchema:
        kind, _, key = reference.partition(":")
        if kind == "registry":
            if self._registry is None:
                raise SchemaUnavailable(
                    f"looking up the schema id {key}: no registry is configured",
                    reference=reference,
                    hint="set kafka.schema_registry_url",
                )
            return await self._registry.schema(int(key))
        definition = (await self._topic.read()).get(key)
        if definition is None:
            raise SchemaUnavailable(
                f"looking up the schema with the fingerprint {key}: the topic `schemas` does not hold it",
                reference=reference,
                hint="a writer publishes its schema there, under its fingerprint in hex, before its first record",
            )
        return WriterSchema("avro", definition)


def _readable(schema: WriterSchema, reference: str) -> WriterSchema:
    """Return the schema as fastavro reads it fastest, or raise SchemaUnavailable for one that must not be used."""
    if schema.format == "json":
        return schema
    # Before parsing for the depth, which parsing itself recurses into; after it for names, which it completes.
    fault = unsafe(schema.definition)
    parsed: Any = None
    if not fault:
        try:
            parsed = parse_schema(schema.definition)
        except Exception as error:  # fastavro raises whatever a malformed schema runs it into
            raise SchemaUnavailable(
                f"using the schema {reference}: it is not a valid Avro schema ({type(error).__name__})",
                reference=reference,
            ) from error
        fault = unsafe(parsed)
    if fault:
        raise SchemaUnavailable(f"using the schema {reference}: {fault}", reference=reference)
    return WriterSchema("avro", parsed)


def _remember(store: OrderedDict[str, Any], reference: str, value: Any, entries_max: int) -> None:
    store[reference] = value
    store.move_to_end(reference)
    while len(store) > entries_max:
        store.popitem(last=False)
