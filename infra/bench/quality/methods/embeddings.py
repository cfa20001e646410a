"""Clusters of embeddings alone: greedy cosine to centroids online, and HDBSCAN offline, which sees everything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn import cluster

from connectors.embedders.wordllama import WordllamaEmbedder
from infra.bench.quality.methods.method import Method, Outcome
from infra.bench.quality.scoring import Labelled, Prediction

BATCH = 256
FIRST_CHARS = 160
Vectors = NDArray[np.float32]


def greedy(stream: Sequence[Labelled], *, cosine_min: float, chars: int | None = None) -> Outcome:
    """Put each text into the cluster with the nearest centroid, if that is near enough, else into one of its own."""
    start = time.process_time()
    vectors = _vectors(stream, chars)
    embedding = time.process_time() - start
    sums = np.zeros((64, vectors.shape[1]), dtype=np.float32)
    centres = np.zeros_like(sums)
    homes: dict[str, Prediction] = {}
    clusters = 0
    for row, vector in zip(stream, vectors, strict=True):
        cosines = centres[:clusters] @ vector
        home = int(cosines.argmax()) if clusters else 0
        if not clusters or cosines[home] < cosine_min:
            home, clusters = clusters, clusters + 1
            if clusters > len(sums):
                sums, centres = (np.concatenate([block, np.zeros_like(block)]) for block in (sums, centres))
        sums[home] += vector
        centres[home] = sums[home] / np.linalg.norm(sums[home])
        homes[row.id] = Prediction(str(home))
    return Outcome(homes, time.process_time() - start, embedding)


def hdbscan(stream: Sequence[Labelled], *, members_min: int) -> Outcome:
    """Cluster all texts at once by density; what is dense nowhere stands alone."""
    start = time.process_time()
    vectors = _vectors(stream, None)
    embedding = time.process_time() - start
    labels = cluster.HDBSCAN(min_cluster_size=members_min, algorithm="ball_tree", copy=True).fit_predict(vectors)
    homes = {row.id: Prediction(None if label < 0 else str(label)) for row, label in zip(stream, labels, strict=True)}
    return Outcome(homes, time.process_time() - start, embedding)


def _vectors(stream: Sequence[Labelled], chars: int | None) -> Vectors:
    embedder = WordllamaEmbedder()
    texts = [row.text[:chars] for row in stream]
    return np.concatenate([embedder.encode(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])


EMBEDDINGS = Method(
    "embeddings",
    "greedy cosine to centroids of wordllama vectors",
    {
        f"cosine >= {cosine}, {what}": partial(greedy, cosine_min=cosine, chars=chars)
        for what, chars in (("full text", None), (f"first {FIRST_CHARS} characters", FIRST_CHARS))
        for cosine in (0.6, 0.7, 0.8, 0.9)
    },
    ("infra/bench/quality/methods/embeddings.py", "connectors/embedders/*.py"),
)
HDBSCAN = Method(
    "HDBSCAN",
    "density clusters of wordllama vectors, offline: sees everything",
    {f"at least {members} members": partial(hdbscan, members_min=members) for members in (3, 5, 10)},
    ("infra/bench/quality/methods/embeddings.py", "connectors/embedders/*.py"),
    online=False,
)
