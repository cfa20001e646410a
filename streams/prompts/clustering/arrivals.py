"""What can be done for a prompt before it is its turn: its sketch, and its vector in whole numbers.

Prompts that come together are prepared together. Nothing here depends on the state, so this changes no answer, but the
machine finds code and tables in its caches when it does one thing for all of them rather than all things for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.prompts import Moderation, Prompt
from streams.prompts.clustering.cluster import VECTOR_SCALE, Kept
from streams.prompts.clustering.compiled.vectors import quantized
from streams.prompts.clustering.sketch import sketches


def arrivals(
    prompts: Sequence[tuple[Prompt, Moderation]], vectors: NDArray[np.float32] | Sequence[NDArray[np.float32]]
) -> list[Kept]:
    """Prepare prompts to be placed, in their order.

    Args:
        vectors: a unit vector for each prompt, or the rows of a matrix.
    """
    if not prompts:
        return []
    # In steps of 1/256: a quarter of the bytes, and sums that are exact.
    whole = quantized(np.ascontiguousarray(vectors, dtype=np.float32), VECTOR_SCALE)
    known = sketches([prompt.text for prompt, _ in prompts])
    return [
        Kept(0, prompt, moderation, vector.copy(), _sketch=sketch)
        for (prompt, moderation), vector, sketch in zip(prompts, whole, known, strict=True)
    ]
