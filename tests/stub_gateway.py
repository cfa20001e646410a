"""A model gateway on this machine: an HTTP server that answers as a test tells it to.

    with StubGateway() as gateway:
        gateway.reply(200, {...})                     # to every request, or
        gateway.answer = lambda request: (200, {...})  # as the request's body deserves
        client = PortkeyClient(api_key="key", base_url=gateway.url)

`requests` holds what came, headers in lower case. `SILENCE` keeps a request waiting until the gateway closes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SILENCE = -1


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: dict[str, str]
    body: Any


# Status and body: a string goes out as it is, anything else as JSON. A third part adds headers.
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class StubGateway:
    """Listens on a free port while the context lasts."""

    def __init__(self) -> None:
        self.answer: Callable[[Any], Answer]
        self.requests: list[Request] = []
        self.reply(404, {"error": {"message": "no answer was set"}})
        self.at_once_max = 0  # requests in work at the same time
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Answer every request the same."""
        self.answer = lambda _: (status, body, headers or {})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with stub._lock:
                    stub.requests.append(
                        Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                    )
                    stub._at_once += 1
                    stub.at_once_max = max(stub.at_once_max, stub._at_once)
                try:
                    status, answer, *more = stub.answer(body)
                finally:
                    with stub._lock:
                        stub._at_once -= 1
                if status == SILENCE:
                    stub._closing.wait()
                    return
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **(more[0] if more else {})}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Say nothing: what came stands in `requests`."""

        return Handler


def embeddings(request: Any, dimension: int) -> dict[str, Any]:
    """Return a right answer to a request for embeddings: a vector that depends on the input's length and ends."""
    data = []
    for index, text in enumerate(request["input"]):
        vector = [0.1] * dimension
        vector[len(text) % dimension] += 1.0
        vector[ord(text[0]) % dimension] += 1.0
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return {"object": "list", "data": data, "model": request["model"], "usage": {"total_tokens": 1}}


def moderations(request: Any, categories: tuple[str, ...]) -> dict[str, Any]:
    """Return a right answer to a request for moderation: a text that says `bad` scores high everywhere."""
    results = []
    for text in request["input"]:
        scores = dict.fromkeys(categories, 0.9 if "bad" in text else 0.01)
        flags = {category: score > 0.5 for category, score in scores.items()}
        results.append({"flagged": any(flags.values()), "categories": flags, "category_scores": scores})
    return {"id": "modr-1", "model": request["model"], "results": results}


def completion(request: Any, content: str) -> dict[str, Any]:
    """Return a right answer to a request for a chat completion."""
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "chat-1", "object": "chat.completion", "created": 1, "model": request["model"], "choices": choices}
