"""Embedding providers by name.

Each factory takes plain keyword arguments and returns a `ports.Embedder`; it imports its provider when it
is called, so that an extra that is not installed is missed only by those who choose it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.embedders.portkey import PortkeyEmbedder
    from connectors.embedders.wordllama import WordllamaEmbedder


def _wordllama(*, chunk_chars: int = 4_000, chunks_max: int = 16) -> WordllamaEmbedder:
    """Return the offline embedder."""
    from connectors.embedders.wordllama import WordllamaEmbedder  # noqa: PLC0415  see above

    return WordllamaEmbedder(chunk_chars=chunk_chars, chunks_max=chunks_max)


def _portkey(
    *, model: str, dimension: int, chunk_chars: int = 4_000, chunks_max: int = 16, **connection: Any
) -> PortkeyEmbedder:
    """Return an embedder behind a gateway; `connection` is what PortkeyClient takes."""
    from connectors.embedders.portkey import PortkeyEmbedder  # noqa: PLC0415  see above
    from connectors.portkey.client import PortkeyClient  # noqa: PLC0415

    return PortkeyEmbedder(
        PortkeyClient(**connection),
        model=model,
        dimension=dimension,
        chunk_chars=chunk_chars,
        chunks_max=chunks_max,
    )


EMBEDDERS: dict[str, Callable[..., WordllamaEmbedder | PortkeyEmbedder]] = {
    "wordllama": _wordllama,
    "portkey": _portkey,
}
