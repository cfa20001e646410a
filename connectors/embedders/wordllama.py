"""Offline embeddings: the mean of a text's static token vectors, from the weights inside the wordllama wheel.

wordllama pads every text of a batch to the longest and multiplies the whole block, so one 256 KiB
prompt among 255 short ones costs it gigabytes, and its low bits depend on the batch. This adapter
takes only its weights and tokenizer and adds up each text's own token vectors. Rules:

- nothing is padded: memory is bounded by the tokens of one chunk and the characters of one batch;
- a text's sum runs over its own tokens in their order, so its vector is the same, bit for bit,
  whatever stands around it;
- a text longer than `chunk_chars` is cut into at most `chunks_max` chunks, each weighing in the mean
  by its tokens;
- the work runs on one thread of its own, beside the event loop; callers queue for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.embedders.vectors import Vectors, chunks, unit_rows

# The weights of the wheel; another release of them would be another vector space.
MODEL = "l2_supercat"
DIMENSION = 256

# Characters handed to the tokenizer at once. A token takes it about 100 bytes, so a batch stays near
# 100 MB even where every byte is a token.
BATCH_CHARS_MAX = 256 * 1024


class WordllamaEmbedder:
    """Implements the port `Embedder` without network, model download or GPU."""

    def __init__(self, *, chunk_chars: int = 4_000, chunks_max: int = 16) -> None:
        if chunk_chars < 1 or chunks_max < 1:
            raise ValueError("chunk_chars and chunks_max must be positive")
        self.dimension = DIMENSION
        # How texts are cut is part of the space: a long text cut otherwise has another vector.
        self.name = f"wordllama-{MODEL}-{chunk_chars}x{chunks_max}"
        self._chunk_chars = chunk_chars
        self._chunks_max = chunks_max
        self._tokenizer, self._token_vectors = _load()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wordllama")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.encode, tuple(texts))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, on the calling thread."""
        sums = np.zeros((len(texts), DIMENSION), dtype=np.float64)
        for owners, pieces in self._batches(texts):
            encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
            for owner, encoding in zip(owners, encodings, strict=True):
                sums[owner] += self._token_vectors.take(encoding.ids, axis=0).sum(axis=0)
        return unit_rows(sums)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield pieces of all texts, with the index of the text each belongs to, in bounded batches."""
        owners: list[int] = []
        pieces: list[str] = []
        chars = 0
        for owner, text in enumerate(texts):
            for piece in chunks(text, self._chunk_chars, self._chunks_max):
                if pieces and chars + len(piece) > BATCH_CHARS_MAX:
                    yield owners, pieces
                    owners, pieces, chars = [], [], 0
                owners.append(owner)
                pieces.append(piece)
                chars += len(piece)
        if pieces:
            yield owners, pieces


@cache
def _load() -> tuple[Any, NDArray[np.float32]]:
    """Return the wheel's tokenizer and token vectors, shared by every embedder of the process."""
    # Importing wordllama configures the root logger; the host process decides about that, not a library.
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import wordllama  # noqa: PLC0415  loads for half a second, and only where this embedder is used

    root.handlers[:] = handlers
    root.setLevel(level)
    # Its default look-up misses the tokenizer that lies in its own package folder.
    model = wordllama.WordLlama.load(
        MODEL, cache_dir=Path(wordllama.__file__).parent, dim=DIMENSION, disable_download=True
    )
    model.tokenizer.no_padding()
    return model.tokenizer, model.embedding
