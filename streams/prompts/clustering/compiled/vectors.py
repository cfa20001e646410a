"""Vectors of whole numbers."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from streams.compiler import kernel

_MOST = np.float32(127)
_FLOATS = types.Array(types.float32, 2, "C", readonly=True)


@kernel(types.int8[:, ::1](_FLOATS, types.float32))
def quantized(vectors: NDArray[np.float32], scale: float) -> NDArray[np.int8]:
    """Return vectors (a row each) times `scale`, rounded to whole numbers of a byte."""
    whole = np.empty(vectors.shape, dtype=np.int8)
    for row in range(vectors.shape[0]):
        for place in range(vectors.shape[1]):
            whole[row, place] = np.int8(min(max(np.rint(vectors[row, place] * scale), -_MOST), _MOST))
    return whole


@kernel()
def _check(sums: NDArray[np.float64], vector: NDArray[np.int8]) -> None:
    if sums.size != vector.size:
        raise ValueError("vectors of two dimensions do not go together")


@kernel("void(f8[::1], i1[::1], f8)")
def add(sums: NDArray[np.float64], vector: NDArray[np.int8], times: float) -> None:
    """Add a vector to sums so many times; -1 takes it out."""
    _check(sums, vector)
    for place in range(sums.size):
        sums[place] += times * vector[place]


@kernel("f8(f8[::1], i1[::1])")
def cosine(sums: NDArray[np.float64], vector: NDArray[np.int8]) -> float:
    """Return the cosine of two vectors of whole numbers, or 0 if one of them is nothing.

    A centroid's sums fit into 32 bits (127 for each of CENTROID_MEMBERS_MAX members), and those below into 64: of
    integers the machine may add several at a time.
    """
    _check(sums, vector)
    product = square = other_square = np.int64(0)
    for place in range(sums.size):
        one, other = np.int64(np.int32(sums[place])), np.int64(vector[place])
        product += one * other
        square += one * one
        other_square += other * other
    lengths = float(square) * float(other_square)
    return product / math.sqrt(lengths) if lengths else 0.0
