"""Moderation through a Portkey gateway.

Rules: every text gets a score in every category or the whole answer is ServiceMalformed: an answer
without a result is never read as harmless. A long text is sent in chunks, all of it, and its score
in a category is the highest of its chunks. Categories bear the names of the moderation endpoint,
which the offline classifier uses as well, so that one policy serves both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from connectors.portkey.client import PortkeyClient, in_parallel
from schemas.errors import ServiceMalformed

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

CHUNK_CHARS = 8_000
# The endpoint takes 32 inputs a request; 8,000 characters keep each below its limit of tokens.
REQUEST_INPUTS_MAX = 32


class PortkeyModerator:
    """Implements the port `Moderator`."""

    categories: tuple[str, ...] = CATEGORIES

    def __init__(self, client: PortkeyClient, *, model: str) -> None:
        self.name = f"portkey-{model}"
        self._client = client
        self._model = model

    async def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return one score a category for each text."""
        pieces = [(owner, piece) for owner, text in enumerate(texts) for piece in _chunks(text)]
        requests = [pieces[start : start + REQUEST_INPUTS_MAX] for start in range(0, len(pieces), REQUEST_INPUTS_MAX)]
        answers = await in_parallel(self._request([piece for _, piece in request]) for request in requests)
        highest = [dict.fromkeys(CATEGORIES, 0.0) for _ in texts]
        scored = (scores for answer in answers for scores in answer)
        for (owner, _), scores in zip(pieces, scored, strict=True):
            for category, score in scores.items():
                highest[owner][category] = max(highest[owner][category], score)
        return highest

    async def _request(self, pieces: list[str]) -> list[dict[str, float]]:
        answer = await self._client.moderations(input=pieces, model=self._model)
        results = answer.results or []
        if len(results) != len(pieces):
            raise ServiceMalformed(f"reading moderation results: {len(results)} came for {len(pieces)} texts")
        return [_scores(result) for result in results]


def _scores(result: Any) -> dict[str, float]:
    if result.category_scores is None:
        raise ServiceMalformed("reading moderation results: one has no category_scores")
    answered = result.category_scores.model_dump()
    scores = {}
    for category in CATEGORIES:
        score = answered.get(category)
        # The SDK checks the single words, which it knows as fields, and passes the rest through as they came.
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
            raise ServiceMalformed(f"reading moderation results: the score of {category} is missing or no probability")
        scores[category] = float(score)
    return scores


def _chunks(text: str) -> Iterator[str]:
    # Lone surrogates cannot be sent as JSON in UTF-8; question marks in their place change no verdict.
    sendable = text.encode("utf-8", "replace").decode("utf-8") or " "
    for start in range(0, len(sendable), CHUNK_CHARS):
        yield sendable[start : start + CHUNK_CHARS]
