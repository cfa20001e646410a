"""promptloom itself, as `promptloom mine` runs it: one pass in order, offline, with the default policies."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from connectors.embedders.wordllama import WordllamaEmbedder
from infra.bench.quality.methods.method import Method, Outcome
from infra.bench.quality.scoring import Labelled, Prediction
from streams.prompts.clustering.policy import Policy
from streams.prompts.mine import Miner


class TimedEmbedder:
    """Counts the processor time that embedding takes."""

    def __init__(self) -> None:
        self._embedder = WordllamaEmbedder()
        self.name = self._embedder.name
        self.dimension = self._embedder.dimension
        self.cpu_seconds = 0.0

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        start = time.process_time()
        vectors = self._embedder.encode(texts)
        self.cpu_seconds += time.process_time() - start
        return vectors


def mined(stream: Sequence[Labelled], policy: Policy | None = None) -> Outcome:
    """Run promptloom over a stream."""
    embedder = TimedEmbedder()
    with tempfile.TemporaryDirectory(prefix="promptloom-quality-") as folder:
        path = Path(folder) / "stream.jsonl"
        path.write_bytes(b"".join(orjson.dumps({"id": row.id, "text": row.text}) + b"\n" for row in stream))
        miner = Miner(path, embedder, embedder.encode, policy=policy or Policy())
        start = time.process_time()
        events = [(event.type.value, event.prompt_id) for event in miner.learn()]
        spent = time.process_time() - start
        predictions = {
            line["id"]: Prediction(line["cluster_id"], line["template"], line["slots"], line["raw"])
            for line in miner.predictions()
        }
    return Outcome(predictions, spent, embedder.cpu_seconds, events)


PROMPTLOOM = Method(
    "promptloom",
    "one pass, default policies",
    {"default": mined},
    ("streams/prompts/**/*.py", "schemas/*.py", "connectors/embedders/*.py"),
    sees_change=True,
    default="default",
)
