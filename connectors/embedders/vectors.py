"""Unit rows: the one shape in which every embedder hands out its vectors.

Rules: a row without a direction (a text without tokens, a service that answered zeros) gets one
fixed direction, so that cosine is defined everywhere; a row that is not finite is an error of
whoever made it. Lengths are taken in float64, whose rounding float32 never sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit_rows(rows: NDArray[np.floating]) -> Vectors:
    """Return the rows scaled to unit length.

    Raises:
        ValueError: a row holds NaN or infinity.
    """
    exact = rows.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError("a vector holds a value that is not finite")
    # Scaled by the largest value first: squares of very large or small values would leave float64's range.
    largest = np.abs(exact).max(axis=1, keepdims=True, initial=0.0)
    exact /= np.where(largest > 0.0, largest, 1.0)
    exact[largest[:, 0] == 0.0] = 1.0
    lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    rows_of_unit_length: Vectors = (exact / lengths).astype(np.float32)
    return rows_of_unit_length


def chunks(text: str, chunk_chars: int, chunks_max: int) -> Iterator[str]:
    """Cut a text into pieces of at most `chunk_chars`; what `chunks_max` pieces do not hold is left out.

    Lone surrogates, which no tokenizer or JSON encoder takes, become question marks.
    """
    kept = text[: chunk_chars * chunks_max].encode("utf-8", "replace").decode("utf-8")
    yield kept[:chunk_chars]
    for start in range(chunk_chars, len(kept), chunk_chars):
        yield kept[start : start + chunk_chars]
