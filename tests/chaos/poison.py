"""Prompts that make a stage raise, and a worker whose moderator and embedder do raise on them.

    python -m tests.chaos.poison     what `promptloom worker` runs, with these two plugged in

The bug is planted through the front door: a worker takes any moderator and any embedder. Their exceptions are not
of the kinds promptloom knows, as a bug's would not be. The oracle is given the same two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streams.engine import health, logs
from streams.engine.metrics import Metrics
from streams.prompts import topology
from streams.prompts.ports import Embedder, Moderator
from streams.prompts.worker import build, embedder_of, moderator_of, prepare
from streams.settings import Settings, load

FOR_MODERATOR = "Explain why the moderator stumbles"
FOR_EMBEDDER = "Explain why the embedder stumbles"
# A gateway declines this one (`gateway.py`); to everybody else it is a prompt like others.
FOR_GATEWAY = "Explain why the gateway declines"
TEXTS = (FOR_MODERATOR, FOR_EMBEDDER, FOR_GATEWAY)


class StumblingModerator:
    """Implements the port `Moderator`."""

    def __init__(self, inner: Moderator) -> None:
        self.name, self.categories = inner.name, inner.categories
        self._inner = inner

    async def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        if any(text.startswith(FOR_MODERATOR) for text in texts):
            raise ZeroDivisionError("a bug of the moderator")
        return await self._inner.score(texts)


class StumblingEmbedder:
    """Implements the port `Embedder`."""

    def __init__(self, inner: Embedder) -> None:
        self.name, self.dimension = inner.name, inner.dimension
        self._inner = inner

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(text.startswith(FOR_EMBEDDER) for text in texts):
            raise KeyError("a bug of the embedder")
        return await self._inner.embed(texts)


def plugged(settings: Settings) -> tuple[Moderator, Embedder]:
    """Return the moderator and the embedder of the settings, made to stumble."""
    return StumblingModerator(moderator_of(settings)), StumblingEmbedder(embedder_of(settings))


def main() -> None:
    """Run a worker until it is told to stop."""
    settings = load()
    logs.configure(settings.logging.level, settings.logging.format)
    metrics = Metrics("promptloom", topology.COUNTERS)
    moderator, embedder = plugged(settings)
    engine = build(settings, metrics, moderator=moderator, embedder=embedder)
    health.serve(settings.metrics.host, settings.metrics.worker_port, metrics.registry, engine.vitals)
    engine.run(partial(prepare, settings, engine))


if __name__ == "__main__":
    main()
