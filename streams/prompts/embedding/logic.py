"""Decide which frames embedded prompts travel in.

Rules: a tenant's prompts all go to the tenant's partition, in the order they came; a frame ends at the
limits of `schemas/limits.py`, vectors included. Which prompts share a frame says nothing: whoever
reads frames reads prompts, one after the other.

Intuition: the sorting office. What came in by road leaves by address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.prompts import EmbeddedFrame, ModeratedPrompt
from streams.engine import frames
from streams.engine.partitioning import partition_of

VALUE_BYTES = 4  # float32

Vector = NDArray[np.float32]


def embedded_frames(
    prompts: Sequence[tuple[ModeratedPrompt, Vector]], *, embedder: str, dimension: int, partitions: int
) -> Iterator[tuple[int, EmbeddedFrame]]:
    """Yield (partition, frame) for all prompts, partitions ascending."""
    by_partition: dict[int, list[tuple[ModeratedPrompt, Vector]]] = {}
    for moderated, vector in prompts:
        partition = partition_of(moderated.prompt.tenant, partitions)
        by_partition.setdefault(partition, []).append((moderated, vector))

    def size_of(item: tuple[ModeratedPrompt, Vector]) -> int:
        return frames.prompt_bytes(item[0].prompt) + dimension * VALUE_BYTES

    for partition in sorted(by_partition):
        for batch in frames.batches(by_partition[partition], size_of):
            yield (
                partition,
                EmbeddedFrame(
                    embedder=embedder,
                    dimension=dimension,
                    vectors=np.stack([vector for _, vector in batch]).astype("<f4").tobytes(),
                    prompts=tuple(moderated for moderated, _ in batch),
                ),
            )
