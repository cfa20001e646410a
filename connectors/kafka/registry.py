"""Find the schema behind a Confluent registry id: at a registry over HTTP, or in a folder of files.

Both answer the same three ways: the schema; SchemaUnavailable for an id they do not have or cannot
use; a ServiceError when they could not say. Only the last one is worth asking again.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import orjson

from schemas.avro import WriterSchema
from schemas.errors import (
    SchemaUnavailable,
    ServiceMalformed,
    ServiceRateLimited,
    ServiceRefused,
    ServiceUnavailable,
    SettingsInvalid,
)

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 5.0


class Registry(Protocol):
    async def schema(self, schema_id: int) -> WriterSchema: ...


def registry_at(url: str) -> Registry | None:
    """Return the registry a setting names: http(s)://..., file:///folder, or "" for none."""
    scheme = urlsplit(url).scheme
    if not url:
        return None
    if scheme in ("http", "https"):
        return HttpRegistry(url)
    if scheme == "file":
        return FileRegistry(Path(url2pathname(urlsplit(url).path)))
    raise SettingsInvalid(
        "kafka.schema_registry_url is neither an http(s) nor a file address",
        hint="http://host:8081, or file:///folder with one <id>.avsc a schema",
    )


class FileRegistry:
    """A folder with one `<id>.avsc` a schema."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def schema(self, schema_id: int) -> WriterSchema:
        path = self._folder / f"{schema_id}.avsc"
        try:
            text = path.read_bytes()  # small and local, once an id: not worth a thread
        except FileNotFoundError:
            raise SchemaUnavailable(
                f"looking up the schema id {schema_id}: the folder has no {path.name}",
                reference=f"registry:{schema_id}",
                hint="put the schema there under that name",
            ) from None
        except OSError as error:
            raise ServiceUnavailable(f"looking up the schema id {schema_id}: {error.strerror}") from error
        return WriterSchema("avro", _json(text, schema_id))


class HttpRegistry:
    """A registry that speaks Confluent's REST interface. Name and password may stand in the address."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        import httpx  # noqa: PLC0415  loads for half a second, which a worker without a registry is back sooner

        self._httpx = httpx
        self._url = url.rstrip("/")
        self._host = urlsplit(url).hostname or ""  # what messages may show: no password, no query
        self._timeout_s = timeout_s

    async def schema(self, schema_id: int) -> WriterSchema:
        doing = f"looking up the schema id {schema_id} at {self._host}"
        try:
            # One client a look-up: there is one look-up a schema, and nothing to close at the end.
            async with self._httpx.AsyncClient(timeout=self._timeout_s) as client:
                response = await client.get(f"{self._url}/schemas/ids/{schema_id}")
        except self._httpx.HTTPError as error:
            raise ServiceUnavailable(f"{doing}: {type(error).__name__}", hint="is the registry running?") from error
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise SchemaUnavailable(f"{doing}: it knows no such id", reference=f"registry:{schema_id}")
        _refuse_status(response, doing)
        return _schema_of(_json(response.content, schema_id), schema_id, doing)


def _refuse_status(response: httpx.Response, doing: str) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = response.headers.get("retry-after", "")
        raise ServiceRateLimited(f"{doing}: too many requests", retry_after_s=float(wait) if wait.isdigit() else None)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServiceRefused(f"{doing}: status {status}", hint="check the address and its name and password")
    raise ServiceUnavailable(f"{doing}: status {status}")


def _schema_of(answer: Any, schema_id: int, doing: str) -> WriterSchema:
    if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
        raise ServiceMalformed(f"{doing}: the answer holds no schema")
    kind = answer.get("schemaType", "AVRO")
    if kind == "JSON":
        return WriterSchema("json")
    if kind != "AVRO" or answer.get("references"):
        what = "an Avro schema with references" if kind == "AVRO" else f"a {kind} schema"
        raise SchemaUnavailable(
            f"{doing}: it is {what}, which is not supported",
            reference=f"registry:{schema_id}",
            hint="send self-contained Avro, JSON schema framing, or plain JSON",
        )
    return WriterSchema("avro", _json(answer["schema"].encode(), schema_id))


def _json(text: bytes, schema_id: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceMalformed(f"looking up the schema id {schema_id}: the answer is no JSON: {error}") from None
