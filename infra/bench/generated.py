"""What benches feed to the mining rooms without a pipeline: prompts of one tenant that nobody moderated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.prompts import Moderation, Prompt

TENANT = "bench"
DIMENSION = 256  # of the vectors, as those of the default embedder
UNIT_PROMPTS = 64  # after which rows are taken, as at the end of a unit
NOT_MODERATED = Moderation(allowed=True, scores={}, moderator="none", policy_version="none")
Vector = NDArray[np.float32]


def prompt_of(number: int, text: str) -> Prompt:
    """Return the prompt that the tenant sent as its `number`-th, a millisecond after the one before it."""
    sent_at_ms = 1_700_000_000_000 + number
    return Prompt(
        prompt_id=f"p{number}",
        tenant=TENANT,
        text=text,
        source="bench",
        created_at_ms=sent_at_ms,
        received_at_ms=sent_at_ms,
        partition=0,
        offset=number,
    )
