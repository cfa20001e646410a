"""The model gateway of a replay: answers rightly, except while a fault has told it not to.

Right answers depend on the text alone, so the oracle, which asks the same gateway afterwards, gets the same. One
text it always declines, whatever else is asked with it (`poison.FOR_GATEWAY`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from connectors.moderators.portkey import CATEGORIES
from streams.settings import EmbeddingSettings, ModerationSettings, PortkeySettings
from tests.chaos.load import STRICT
from tests.chaos.poison import FOR_GATEWAY
from tests.stub_gateway import SILENCE, Answer, StubGateway, embeddings, moderations

DIMENSION = 48
TIMEOUT_S = 2.0

TROUBLES: Mapping[str, Callable[[Any], Answer]] = {
    "answers nothing (time-out)": lambda _: (SILENCE, None),
    "answers 429": lambda _: (429, {"error": {"message": "slow down"}}, {"retry-after": "1"}),
    "answers 403 to everything": lambda _: (403, {"error": {"message": "no"}}),
    "answers 500": lambda _: (500, {"error": {"message": "broken"}}),
    "answers malformed JSON": lambda _: (200, '{"object": "list", "data": [{"embed'),
    "answers JSON of another shape": lambda _: (200, {"object": "list", "data": [], "results": []}),
}


class Gateway:
    """Listens while the context lasts. `trouble` names what it does wrong at the moment; empty = nothing."""

    def __init__(self) -> None:
        self.trouble = ""
        self._stub = StubGateway()
        self._stub.answer = self._answer
        # Workers are killed in the middle of requests, and each would fill the screen.
        self._stub._server.handle_error = lambda *_: None  # type: ignore[method-assign]

    def __enter__(self) -> Gateway:
        self._stub.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stub.__exit__(None, None, None)

    def sections(self) -> dict[str, Any]:
        """Return the sections of the settings that make a worker use it for both models."""
        return {
            "portkey": PortkeySettings(base_url=self._stub.url, api_key=SecretStr("chaos"), timeout_s=TIMEOUT_S),
            "embedding": EmbeddingSettings(embedder="portkey", portkey_dimension=DIMENSION),
            "moderation": ModerationSettings(moderator="portkey", tenants={STRICT: {"all": 0.0}}),
        }

    def _answer(self, request: Any) -> Answer:
        if self.trouble:
            return TROUBLES[self.trouble](request)
        if any(FOR_GATEWAY in text for text in request["input"]):
            return 403, {"error": {"message": "declined for its content"}}
        if "encoding_format" in request:
            return 200, embeddings(request, DIMENSION)
        return 200, moderations(request, CATEGORIES)
