"""Vectors of whole numbers."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from streams.compiler import kernel

_MOST = np.float32(127)
_FLOATS = types.Array(types.float32, 1, "C", readonly=True)


@kernel(types.int8[::1](_FLOATS, types.float32))
def quantized(vector: NDArray[np.float32], scale: float) -> NDArray[np.int8]:
    """Return a vector times `scale`, rounded to whole numbers of a byte."""
    whole = np.empty(vector.size, dtype=np.int8)
    for place in range(vector.size):
        whole[place] = np.int8(min(max(np.rint(vector[place] * scale), -_MOST), _MOST))
    return whole


@kernel("f8(i1[::1])")
def square(vector: NDArray[np.int8]) -> float:
    """Return the scalar product of a vector of whole numbers with itself."""
    total = 0.0
    for value in vector:
        total += float(value) * float(value)
    return total


@kernel("f8(f8[::1], i1[::1])")
def product(sums: NDArray[np.float64], vector: NDArray[np.int8]) -> float:
    """Return the scalar product of two vectors of whole numbers."""
    if sums.size != vector.size:
        raise ValueError("vectors of two dimensions have no product")
    total = 0.0
    for place in range(sums.size):
        total += sums[place] * vector[place]
    return total
