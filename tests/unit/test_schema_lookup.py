"""Other writers' schemas: a registry over real HTTP on this machine, a folder, and what is remembered of both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.registry import FileRegistry, HttpRegistry, registry_at
from connectors.kafka.schema_lookup import UNKNOWN_FOR_S, SchemaLookup
from schemas.avro import WriterSchema
from schemas.errors import (
    SchemaUnavailable,
    ServiceMalformed,
    ServiceRateLimited,
    ServiceRefused,
    ServiceUnavailable,
    SettingsInvalid,
    UndecodableRecord,
)
from streams.engine import encodings

SCHEMA = {"type": "record", "name": "acme.Asked", "fields": [{"name": "text", "type": "string"}]}
ANSWER = {"schema": orjson.dumps(SCHEMA).decode()}
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what starts a registry that gives one answer to everything, and returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(
        status: int = 200,
        body: Any = None,
        headers: dict[str, str] | None = None,
        delay_s: float = 0.0,
        asked: list[str] | None = None,
    ) -> str:
        content = body if isinstance(body, bytes) else orjson.dumps(body)

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if asked is not None:
                    asked.append(f"{self.path} {self.headers.get('authorization', '-')}")
                time.sleep(delay_s)
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


async def test_a_registry_gives_the_schema_of_an_id(serve: Serve) -> None:
    asked: list[str] = []
    url = serve(body=ANSWER, asked=asked)
    assert await HttpRegistry(url + "/").schema(7) == WriterSchema("avro", SCHEMA)
    assert asked == ["/schemas/ids/7 -"]


async def test_name_and_password_in_the_address_are_sent_and_never_shown(serve: Serve) -> None:
    asked: list[str] = []
    url = serve(status=401, asked=asked).replace("http://", "http://ann:hush@")
    with pytest.raises(ServiceRefused) as refused:
        await HttpRegistry(url).schema(7)
    assert asked[0].startswith("/schemas/ids/7 Basic ")
    assert "hush" not in str(refused.value)


async def test_a_json_schema_means_plain_json(serve: Serve) -> None:
    url = serve(body={"schema": "{}", "schemaType": "JSON"})
    assert await HttpRegistry(url).schema(7) == WriterSchema("json")


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({"status": 404, "body": {"error_code": 40403}}, SchemaUnavailable, "knows no such id"),
        ({"body": ANSWER | {"schemaType": "PROTOBUF"}}, SchemaUnavailable, "PROTOBUF"),
        ({"body": ANSWER | {"references": [{"name": "x"}]}}, SchemaUnavailable, "references"),
        ({"status": 429, "headers": {"retry-after": "3"}}, ServiceRateLimited, "too many requests"),
        ({"status": 500}, ServiceUnavailable, "status 500"),
        ({"status": 403}, ServiceRefused, "status 403"),
        ({"status": 302}, ServiceUnavailable, "status 302"),
        ({"body": b"<html>"}, ServiceMalformed, "no JSON"),
        ({"body": []}, ServiceMalformed, "holds no schema"),
        ({"body": {"schema": 5}}, ServiceMalformed, "holds no schema"),
        ({"body": {"schema": "{"}}, ServiceMalformed, "no JSON"),
    ],
)
async def test_each_other_answer_has_its_error(
    serve: Serve, answer: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        await HttpRegistry(serve(**answer)).schema(7)
    if isinstance(caught.value, ServiceRateLimited):
        assert caught.value.retry_after_s == 3.0


async def test_a_slow_registry_is_unavailable(serve: Serve) -> None:
    with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
        await HttpRegistry(serve(body=ANSWER, delay_s=0.5), timeout_s=0.05).schema(7)


async def test_a_registry_that_is_not_there_is_unavailable(serve: Serve) -> None:
    with pytest.raises(ServiceUnavailable, match="ConnectError"):
        await HttpRegistry("http://127.0.0.1:1").schema(7)


async def test_a_folder_is_a_registry_too(tmp_path: Path) -> None:
    (tmp_path / "7.avsc").write_bytes(orjson.dumps(SCHEMA))
    (tmp_path / "8.avsc").write_text("{")
    (tmp_path / "9.avsc").mkdir()
    registry = registry_at(tmp_path.as_uri())
    assert isinstance(registry, FileRegistry)
    assert await registry.schema(7) == WriterSchema("avro", SCHEMA)
    with pytest.raises(ServiceMalformed):
        await registry.schema(8)
    with pytest.raises(ServiceUnavailable):
        await registry.schema(9)
    with pytest.raises(SchemaUnavailable):
        await registry.schema(10)


def test_an_address_says_what_kind_of_registry_it_is() -> None:
    assert registry_at("") is None
    assert isinstance(registry_at("https://registry.example"), HttpRegistry)
    with pytest.raises(SettingsInvalid):
        registry_at("ftp://registry.example")


class Topic:
    """A `schemas` topic that counts how often it is read."""

    def __init__(self, schemas: dict[str, Any] | None = None) -> None:
        self.schemas = schemas or {}
        self.reads = 0

    async def read(self) -> dict[str, Any]:
        self.reads += 1
        return self.schemas


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_schema_is_asked_for_once() -> None:
    topic = Topic({"aa": SCHEMA})
    lookup = SchemaLookup(topic)
    assert lookup.known("fingerprint:aa") is None
    found = await lookup.find("fingerprint:aa")
    assert found.definition["name"] == "acme.Asked"
    assert lookup.known("fingerprint:aa") == await lookup.find("fingerprint:aa") == found
    assert topic.reads == 1


async def test_what_nobody_knew_is_asked_for_again_only_after_a_while() -> None:
    topic, clock = Topic(), Clock()
    lookup = SchemaLookup(topic, clock=clock)
    for _ in range(3):
        with pytest.raises(SchemaUnavailable, match="does not hold it"):
            await lookup.find("fingerprint:aa")
    assert topic.reads == 1
    topic.schemas["aa"] = SCHEMA
    clock.now = UNKNOWN_FOR_S
    await lookup.find("fingerprint:aa")
    assert topic.reads == 2


async def test_an_id_needs_a_registry() -> None:
    with pytest.raises(SchemaUnavailable, match="no registry is configured"):
        await SchemaLookup(Topic()).find("registry:7")


async def test_a_registry_that_fails_is_asked_again(serve: Serve) -> None:
    asked: list[str] = []
    lookup = SchemaLookup(Topic(), HttpRegistry(serve(status=500, asked=asked)))
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            await lookup.find("registry:7")
    assert len(asked) == 2


async def test_what_is_remembered_is_bounded() -> None:
    topic = Topic({f"{number:x}": "string" for number in range(8)})
    lookup = SchemaLookup(topic, entries_max=4)
    for number in range(16):
        with suppress(SchemaUnavailable):
            await lookup.find(f"fingerprint:{number:x}")
    assert [number for number in range(16) if lookup.known(f"fingerprint:{number:x}")] == [4, 5, 6, 7]
    reads = topic.reads
    with pytest.raises(SchemaUnavailable):
        await lookup.find("fingerprint:8")  # forgotten, so asked for again; the newest four are not
    with pytest.raises(SchemaUnavailable):
        await lookup.find("fingerprint:f")
    assert topic.reads == reads + 1


DEEP: Any = "string"
for _ in range(1_000):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}, "contains itself"),
        (
            {"type": "record", "name": "N", "namespace": "a", "fields": [{"name": "n", "type": ["null", "a.N"]}]},
            "contains itself",
        ),
        ({"type": "array", "items": "null"}, "take no bytes"),
        ({"type": "record", "fields": []}, "not a valid Avro schema"),
        ({"type": "record", "name": "N", "fields": [5]}, "not an Avro schema"),
        ({"type": "recordd", "name": "N", "fields": []}, "not a valid Avro schema"),
        ({"type": "record", "name": "N", "fields": [{"name": "n", "type": "M"}]}, "not a valid Avro schema"),
        ({}, "not a valid Avro schema"),
        (5, "not an Avro schema"),
        (DEEP, "nests deeper"),
    ],
)
async def test_a_schema_that_cannot_or_must_not_be_used_counts_as_unknown(definition: Any, message: str) -> None:
    with pytest.raises(SchemaUnavailable, match=message):
        await SchemaLookup(Topic({"aa": definition})).find("fingerprint:aa")


WORDS = st.sampled_from(["record", "array", "map", "fixed", "enum", "null", "string", "bytes", "N", "M", "", "decimal"])
SCHEMAS = st.recursive(
    WORDS | st.none() | st.integers(0, 3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "name", "fields", "items", "values", "size", "symbols", "logicalType", "namespace"]
            ),
            inner,
            max_size=4,
        )
        | st.builds(lambda kind: {"type": "record", "name": "N", "fields": [{"name": "a", "type": kind}]}, inner)
        | st.builds(lambda kind: {"type": "array", "items": kind}, inner)
    ),
    max_leaves=10,
)


@given(SCHEMAS, st.binary(max_size=50))
async def test_no_schema_and_no_bytes_break_anything(definition: Any, body: bytes) -> None:
    lookup = SchemaLookup(Topic({"00" * 8: definition}))
    with suppress(SchemaUnavailable):
        await lookup.find(f"fingerprint:{'00' * 8}")
        with suppress(UndecodableRecord):
            encodings.decode(b"\xc3\x01" + bytes(8) + body, lookup, {})
