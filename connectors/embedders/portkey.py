"""Embeddings through a Portkey gateway.

Rules: a text longer than `chunk_chars` is sent in at most `chunks_max` chunks and gets the mean of
their unit vectors, each weighing by its characters; a request is bounded in inputs and characters;
an answer must hold one finite vector of the promised dimension for each input, by index, or the whole
answer is ServiceMalformed. Nothing is ever padded, cut or guessed to make an answer fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.embedders.vectors import Vectors, chunks, unit_rows
from connectors.portkey.client import PortkeyClient, in_parallel
from schemas.errors import ServiceMalformed

# The hosted providers take 300,000 tokens and 2,048 inputs a request; a character is at most two tokens
# in any script they tokenise, and half of what is left answers twice as fast.
REQUEST_CHARS_MAX = 75_000
REQUEST_INPUTS_MAX = 256


class PortkeyEmbedder:
    """Implements the port `Embedder`.

    The gateway decides how stable its vectors are: a cache in front (`cache.py`) makes a repeated text
    cheap, and equal to itself as long as it is remembered.
    """

    def __init__(
        self, client: PortkeyClient, *, model: str, dimension: int, chunk_chars: int = 4_000, chunks_max: int = 16
    ) -> None:
        self.dimension = dimension
        self.name = f"portkey-{model}-{chunk_chars}x{chunks_max}"
        self._client = client
        self._model = model
        self._chunk_chars = chunk_chars
        self._chunks_max = chunks_max

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text."""
        pieces = [
            (owner, piece)
            for owner, text in enumerate(texts)
            for piece in chunks(text, self._chunk_chars, self._chunks_max)
        ]
        answers = await in_parallel(self._request([piece for _, piece in batch]) for batch in _batches(pieces))
        sums = np.zeros((len(texts), self.dimension), dtype=np.float64)
        rows = (row for answer in answers for row in answer)
        for (owner, piece), row in zip(pieces, rows, strict=True):
            sums[owner] += row * np.float64(max(len(piece), 1))
        return unit_rows(sums)

    async def _request(self, pieces: list[str]) -> Vectors:
        # An empty input is refused by most providers; a space embeds as the same nothing.
        inputs = [piece or " " for piece in pieces]
        answer = await self._client.embeddings(input=inputs, model=self._model, encoding_format="float")
        return unit_rows(self._rows(answer, len(pieces)))

    def _rows(self, answer: Any, count: int) -> NDArray[np.float64]:
        """Return the answer's vectors in the order of the inputs."""
        data = answer.data or []
        if sorted(-1 if item.index is None else item.index for item in data) != list(range(count)):
            raise ServiceMalformed(f"reading embeddings: {len(data)} vectors came for {count} texts, or out of place")
        rows = np.empty((count, self.dimension), dtype=np.float64)
        for item in data:
            if not isinstance(item.embedding, list):
                raise ServiceMalformed("reading embeddings: a vector is not a list of numbers")
            if len(item.embedding) != self.dimension:
                raise ServiceMalformed(
                    f"reading embeddings: a vector has {len(item.embedding)} values, not {self.dimension}",
                    hint=f"set embedding.portkey_dimension to what {self._model} gives",
                )
            rows[item.index] = item.embedding
        if not np.isfinite(rows).all():
            raise ServiceMalformed("reading embeddings: a vector holds a value that is not finite")
        return rows


def _batches(pieces: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    chars = 0
    for owner, piece in pieces:
        if batch and (len(batch) == REQUEST_INPUTS_MAX or chars + len(piece) > REQUEST_CHARS_MAX):
            yield batch
            batch, chars = [], 0
        batch.append((owner, piece))
        chars += len(piece)
    if batch:
        yield batch
