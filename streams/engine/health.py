"""`/metrics`, `/live` and `/ready` of a process, on one small HTTP port.

The server runs in a thread of its own, so it answers even when the process does no work at all. So:

`/live`   200 while the event loop answers: it beats once a second, and the thread looks at the last beat.
          503 once it has been silent for long. Restart the process then: whatever hangs there will not come back.
`/ready`  200 while work moves, or there is none. Otherwise 503, with what does not move, why, and since when: a
          process that waits for a service is alive, but not ready, and a restart would not help.

Intuition: the doorman cannot do the work, but he hears whether somebody inside is still moving about.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from schemas.errors import SettingsInvalid

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

BEAT_INTERVAL_S = 1.0
# A unit holds the loop for hundreds of milliseconds, the largest repair for seconds; a loop that is silent for
# longer than this hangs.
SILENT_SECONDS_MAX = 30.0
LOOP = "event loop"

# Returns reasons by place (stage and partition), empty = ready. May be called from any thread.
Reasons = Callable[[], Mapping[str, str]]


class Vitals:
    """Whether the event loop answers, and why work does not move. Beats in the loop, is read in any thread."""

    def __init__(self, reasons: Reasons, *, silent_s_max: float = SILENT_SECONDS_MAX) -> None:
        self._reasons = reasons
        self._silent_s_max = silent_s_max
        self._beat_at = time.monotonic()  # the time until the loop runs counts as well
        self._since: Mapping[str, datetime] = {}  # replaced, never changed

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat while the context is open."""
        beats = asyncio.create_task(self._beat_on(), name="heartbeat")
        try:
            yield
        finally:
            beats.cancel()

    async def _beat_on(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            self._note(self._reasons())
            await asyncio.sleep(BEAT_INTERVAL_S)

    def silence(self) -> str:
        """Return what is wrong with the event loop; '' = it answers."""
        silent_s = time.monotonic() - self._beat_at
        return f"the event loop has not answered for {silent_s:.0f} s" if silent_s > self._silent_s_max else ""

    def unready(self) -> tuple[Mapping[str, str], Mapping[str, datetime]]:
        """Return by place why work does not move, and since when."""
        reasons = dict(self._reasons())
        if silence := self.silence():
            reasons[LOOP] = silence
        return reasons, self._note(reasons)

    def _note(self, reasons: Mapping[str, str]) -> Mapping[str, datetime]:
        """Remember since when a place does not move; the reason may change meanwhile."""
        now, before = datetime.now(UTC), self._since
        since = self._since = {place: before.get(place, now) for place in reasons}
        return since


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a scrape in progress must not keep a stopping process alive


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  signature of the standard library
        """Scrapes are not worth a log line each."""


def serve(host: str, port: int, registry: CollectorRegistry, vitals: Vitals) -> int:
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
            silence = vitals.silence()
            return _answer(start_response, not silence, {"live": not silence, "reason": silence})
        if path == "/ready":
            reasons, since = vitals.unready()
            began = {place: at.isoformat(timespec="seconds") for place, at in since.items()}
            return _answer(start_response, not reasons, {"ready": not reasons, "reasons": reasons, "since": began})
        start_response("404 Not Found", [("Content-Type", "application/json")])
        return [json.dumps({"paths": ["/metrics", "/live", "/ready"]}).encode()]

    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise SettingsInvalid(
            f"serving metrics on {host}:{port}: {error.strerror}",
            hint="set metrics.worker_port / metrics.sink_port to a free port, or to 0 for any",
        ) from error
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


def _answer(start_response: StartResponse, well: bool, body: dict[str, object]) -> Iterable[bytes]:
    start_response("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
