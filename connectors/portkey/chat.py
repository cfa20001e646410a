"""A language model behind a Portkey gateway, asked for one JSON object at a time.

Rules: one system and one user message, nothing remembered between calls. The gateway is asked for JSON, but
which providers hold themselves to that is their business: the text is returned as it came. An answer
without text (a refusal, a tool call) is ServiceMalformed.
"""

from __future__ import annotations

from typing import Any

from connectors.portkey.client import PortkeyClient
from schemas.errors import ServiceMalformed


class PortkeyChat:
    """Implements the port `LanguageModel`.

    `tokens_max` bounds what one answer may cost; 0 leaves it to the gateway, for models that refuse `max_tokens`.
    """

    def __init__(self, *, model: str, tokens_max: int = 0, **connection: Any) -> None:
        """Take the gateway's model and what PortkeyClient takes."""
        self.name = model
        self._client = PortkeyClient(**connection)
        self._limits = {"max_tokens": tokens_max} if tokens_max else {}

    async def complete(self, instructions: str, text: str) -> str:
        """Return what the model said."""
        answer = await self._client.chat(
            model=self.name,
            messages=[{"role": "system", "content": instructions}, {"role": "user", "content": text}],
            response_format={"type": "json_object"},
            **self._limits,
        )
        choices = answer.choices or []
        content = choices[0].message.content if choices and choices[0].message is not None else None
        if not isinstance(content, str):
            raise ServiceMalformed("reading a completion: it holds no text")
        return content
