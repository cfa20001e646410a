"""`/metrics`, `/live` and `/ready` of a process, on one small HTTP port.

`/live` answers as long as the process can answer at all: restart it when it does not.
`/ready` answers 200 while work moves (or there is none) and 503 with the reasons otherwise: a
worker that holds a partition because a service is away is alive, but not ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from schemas.errors import SettingsInvalid

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

# Returns reasons by place (stage and partition), empty = ready.
Reasons = Callable[[], Mapping[str, str]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a scrape in progress must not keep a stopping process alive


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  signature of the standard library
        """Scrapes are not worth a log line each."""


def serve(host: str, port: int, registry: CollectorRegistry, reasons: Reasons) -> int:
    """Serve in a background thread; return the port (a free one where `port` is 0).

    Raises:
        SettingsInvalid: the port is taken or not allowed.
    """
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            scraped: Iterable[bytes] = metrics(environ, start_response)
            return scraped
        if path == "/live":
            return _answer(start_response, "200 OK", {"live": True})
        if path == "/ready":
            why = dict(reasons())
            return _answer(
                start_response, "503 Service Unavailable" if why else "200 OK", {"ready": not why, "reasons": why}
            )
        return _answer(start_response, "404 Not Found", {"paths": ["/metrics", "/live", "/ready"]})

    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise SettingsInvalid(
            f"serving metrics on {host}:{port}: {error.strerror}",
            hint="set metrics.worker_port / metrics.sink_port to a free port, or to 0 for any",
        ) from error
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


def _answer(start_response: StartResponse, status: str, body: dict[str, object]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
