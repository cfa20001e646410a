"""Remember vectors by what was embedded: equal texts are asked for once.

Rules: the key is the SHA-256 of the text, so the cache holds no prompt; the least recently used of more
than `entries_max` is forgotten; a repeated text inside one call is asked for once, too; a call that
fails remembers nothing. The cache changes cost, never answers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from connectors.embedders.vectors import Vectors


class Embedder(Protocol):
    """What is wrapped: anything of the shape of the port `Embedder`."""

    name: str
    dimension: int

    async def embed(self, texts: Sequence[str]) -> Vectors: ...


class CachedEmbedder:
    """Implements the port `Embedder` by another one."""

    def __init__(self, embedder: Embedder, *, entries_max: int = 50_000) -> None:
        self.name = embedder.name
        self.dimension = embedder.dimension
        self.hits = 0
        self.misses = 0
        self._embedder = embedder
        self._entries_max = entries_max
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, asking the wrapped embedder only for texts not remembered."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        known = {key: self._vectors[key] for key in keys if key in self._vectors}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.hits += len(texts) - len(missing)
        self.misses += len(missing)
        if missing:
            fresh = await self._embedder.embed(list(missing.values()))
            # Copied, because a row of the answer would keep the whole answer alive.
            known.update((key, row.copy()) for key, row in zip(missing, fresh, strict=True))
        self._remember(keys, known)
        rows = np.empty((len(keys), self.dimension), dtype=np.float32)
        for index, key in enumerate(keys):
            rows[index] = known[key]
        return rows

    def _remember(self, keys: Sequence[bytes], vectors: dict[bytes, Vectors]) -> None:
        for key in keys:
            self._vectors[key] = vectors[key]
            self._vectors.move_to_end(key)
        while len(self._vectors) > self._entries_max:
            self._vectors.popitem(last=False)
