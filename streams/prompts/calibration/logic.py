"""Decide from which cosine on two prompts mean the same, for one embedder and one tenant's prompts.

A cosine says nothing by itself: one embedder gives unrelated texts 0.1, another 0.8, and prompts of a narrow domain
lie closer together than those of a wide one. So it is measured, on prompts that structure alone has grouped:

    random     pairs of any two prompts
    members    a prompt and the centre of its own cluster, without itself
    strangers  a prompt and the nearest centre of a cluster that is not its own

Rules
  1. The threshold is the cosine that one prompt in ten reaches with a foreign cluster (`STRANGERS_SHARE`). It is only
     asked where half of a cluster's constants agree already, so one in ten of the few that get there may pass wrongly.
  2. It is never lower than what one random pair in a hundred reaches, and never `CLOSEST` or higher: then only equal
     texts would pass.
  3. Everything follows from the prompts in their order; nothing is drawn at random.

Intuition: how near do strangers stand to each other in this town? Friends are those who stand nearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError

PROMPTS_MIN = 200  # fewer show neither tail of a distribution
CLUSTERS_MIN = 3
MEMBERS_MIN = 5  # a centre of fewer is mostly one prompt
STRANGERS_SHARE = 0.1
CLOSEST = 0.99
PAIRS_PER_PROMPT = 5
PERCENTILES = (1, 10, 50, 90, 99)
DIGITS = 3

Vectors = NDArray[np.float32]
Cosines = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, as percentiles, and the threshold that follows from it."""

    prompts: int
    clusters: int
    random: Mapping[int, float]
    members: Mapping[int, float]
    strangers: Mapping[int, float]
    meaning_min: float
    members_reached: float  # share of prompts as near to their own cluster as the threshold asks
    strangers_reached: float


def calibrate(vectors: Vectors, homes: Sequence[str | None]) -> Calibration:
    """Measure prompts by their unit vectors and the clusters they are in.

    Raises:
        InputError: there are too few prompts, or too few clusters of some size.
    """
    groups = _groups(homes)
    if len(vectors) < PROMPTS_MIN or len(groups) < CLUSTERS_MIN:
        raise InputError(
            f"calibrating on {len(vectors):,} prompts: {len(groups):,} clusters of {MEMBERS_MIN} prompts or more "
            f"were found in them; at least {PROMPTS_MIN} prompts and {CLUSTERS_MIN} such clusters are needed",
            hint="take more of your traffic: a few thousand prompts of one tenant",
        )
    random = _random_pairs(vectors)
    members, strangers = _nearness(vectors, groups)
    lowest = float(np.percentile(random, 99))
    wanted = float(np.percentile(strangers, 100 * (1 - STRANGERS_SHARE)))
    threshold = round(min(CLOSEST, max(lowest, wanted)), DIGITS)
    return Calibration(
        prompts=len(vectors),
        clusters=len(groups),
        random=_percentiles(random),
        members=_percentiles(members),
        strangers=_percentiles(strangers),
        meaning_min=threshold,
        members_reached=round(float((members >= threshold).mean()), DIGITS),
        strangers_reached=round(float((strangers >= threshold).mean()), DIGITS),
    )


def _groups(homes: Sequence[str | None]) -> list[NDArray[np.int64]]:
    """Return the places of each cluster's prompts, clusters of some size only."""
    members: dict[str, list[int]] = {}
    for place, home in enumerate(homes):
        if home is not None:
            members.setdefault(home, []).append(place)
    return [np.array(places) for _, places in sorted(members.items()) if len(places) >= MEMBERS_MIN]


def _random_pairs(vectors: Vectors) -> Cosines:
    """Return cosines of prompts that stand far apart in the stream: as good as any two."""
    count = len(vectors)
    shifts = [count * step // (2 * PAIRS_PER_PROMPT + 1) for step in range(1, PAIRS_PER_PROMPT + 1)]
    return np.concatenate([np.einsum("ij,ij->i", vectors, np.roll(vectors, shift, axis=0)) for shift in shifts]).astype(
        np.float64
    )


def _nearness(vectors: Vectors, groups: Sequence[NDArray[np.int64]]) -> tuple[Cosines, Cosines]:
    """Return how near each prompt is to its own centre, itself left out, and to the nearest other one."""
    sums = np.stack([vectors[places].sum(axis=0, dtype=np.float64) for places in groups])
    centres = _unit(sums)
    members, strangers = [], []
    for number, places in enumerate(groups):
        own = vectors[places].astype(np.float64)
        members.append(np.einsum("ij,ij->i", own, _unit(sums[number] - own)))
        cosines = own @ centres.T
        cosines[:, number] = -1.0
        strangers.append(cosines.max(axis=1))
    return np.concatenate(members), np.concatenate(strangers)


def _unit(rows: Cosines) -> Cosines:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0.0, lengths, 1.0)


def _percentiles(cosines: Cosines) -> dict[int, float]:
    return {percent: round(float(np.percentile(cosines, percent)), DIGITS) for percent in PERCENTILES}
