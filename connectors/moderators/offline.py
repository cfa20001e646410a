"""Offline moderation: a small linear classifier on character grams and word vectors, shipped as numbers.

Rules
  * A text's score in a category is the highest of its windows (features.py).
  * A window's score is the logistic of a weighted sum: one weight a gram bucket, one a dimension of
    its wordllama vector, one constant. The constant is set so that 0.5 is the operating point
    chosen in training, between missing what offends and rejecting what is ordinary.
  * A window scores the same whatever stands around it, so scores are remembered: the paragraphs of a template
    come again with every prompt of it. What is remembered is a digest, not the text.
  * It knows what it was trained on: eight categories, English above all. It is a first gate that costs
    nothing, not a judge; its measured figures are in weights.json beside the weights.

Intuition: it has learnt which turns of phrase come in bad company.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.embedders.wordllama import WordllamaEmbedder
from connectors.moderators.features import grams, windows

FOLDER = Path(__file__).parent
WEIGHTS = "weights.npz"
CARD = "weights.json"  # what the weights are: name, categories, measured figures

# Windows whose vectors are computed together: about 250,000 characters, whatever the texts.
WINDOWS_MAX = 256
# About 4 MB of digests and scores; the paragraphs of thousands of templates.
WINDOWS_KEPT_MAX = 20_000
DIGEST_BYTES = 16

Scores = NDArray[np.float64]


class OfflineModerator:
    """Implements the port `Moderator` without network or model download."""

    def __init__(self, folder: Path = FOLDER) -> None:
        described = json.loads((folder / CARD).read_text(encoding="utf-8"))
        self.name: str = described["name"]
        self.categories: tuple[str, ...] = tuple(described["categories"])
        with np.load(folder / WEIGHTS) as arrays:
            # Row by row in memory: picking rows would copy a table that is stored by columns, every time.
            self._by_bucket = arrays["by_bucket"].astype(np.float32, order="C")
            self._by_dimension = arrays["by_dimension"].astype(np.float32, order="C")
            self._constant = arrays["constant"].astype(np.float64)
        self._embedder = WordllamaEmbedder()
        self._kept: OrderedDict[bytes, Scores] = OrderedDict()  # by digest, the least recently met first
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moderator")

    async def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return one score a category for each text."""
        rows = await asyncio.get_running_loop().run_in_executor(self._thread, self.scores, tuple(texts))
        return [dict(zip(self.categories, map(float, row), strict=True)) for row in rows]

    def scores(self, texts: Sequence[str]) -> Scores:
        """Return shape (texts, categories), on the calling thread."""
        highest = np.zeros((len(texts), len(self.categories)))
        pieces = [(owner, window) for owner, text in enumerate(texts) for window in windows(text)]
        for start in range(0, len(pieces), WINDOWS_MAX):
            batch = pieces[start : start + WINDOWS_MAX]
            scores = self._scores_of(dict.fromkeys(window for _, window in batch))
            for owner, window in batch:
                np.maximum(highest[owner], scores[window], out=highest[owner])
        return highest

    def _scores_of(self, windows: Iterable[str]) -> dict[str, Scores]:
        digests = {window: _digest(window) for window in windows}
        fresh = [window for window, digest in digests.items() if digest not in self._kept]
        for window, vector in zip(fresh, self._embedder.encode(fresh) if fresh else (), strict=True):
            self._kept[digests[window]] = self._window_scores(window, vector)
        found = {}
        for window, digest in digests.items():
            self._kept.move_to_end(digest)
            found[window] = self._kept[digest]
        while len(self._kept) > WINDOWS_KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    def _window_scores(self, window: str, vector: NDArray[np.float32]) -> Scores:
        buckets, weights = grams(window)
        # Sums over one axis, not matrix products: those may round differently from one machine to the next.
        by_gram = (self._by_bucket.take(buckets, axis=0) * weights[:, np.newaxis]).sum(axis=0)
        by_meaning = (self._by_dimension * vector[:, np.newaxis]).sum(axis=0)
        scores: Scores = 1.0 / (1.0 + np.exp(-(self._constant + by_gram + by_meaning)))
        return scores


def _digest(window: str) -> bytes:
    return blake2b(window.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
