"""What the stages of prompts ask of the outside, as protocols: they meet services only through these.

A conformance suite in `tests/contracts/` runs every implementation of `Embedder` and `Moderator` through the same
checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into unit vectors.

    `name` identifies the vector space: two embedders with one name must give the same vectors.
    `embed` is called with 1..n texts of at most `TEXT_BYTES_MAX`; it raises ServiceError, never returns
    a vector of another dimension, and gives the same vector for a text whatever the batch around it.
    """

    name: str
    dimension: int

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return shape (len(texts), dimension), rows of unit length."""


class Moderator(Protocol):
    """Scores texts by category, as probabilities 0..1.

    `categories` is fixed for the life of the object. `score` raises ServiceError.
    """

    name: str
    categories: tuple[str, ...]

    async def score(self, texts: Sequence[str]) -> list[dict[str, float]]: ...


class LanguageModel(Protocol):
    """Answers a text in JSON, as its instructions ask.

    `name` identifies the model in whatever is made of its answers. `complete` raises ServiceError; it returns
    what the model said without a look at it, so whoever asks checks it. Asked again, a model may answer otherwise.
    """

    name: str

    async def complete(self, instructions: str, text: str) -> str: ...
