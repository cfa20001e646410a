"""Tell whether the values of a slot, or the prompts of a cluster, come from elsewhere than they used to."""

from __future__ import annotations
from dataclasses import dataclass
from typing import Any
from streams.prompts.canonicalization.cluster import ClusterState


@dataclass(frozen=True, slots=True)
class Drift:
    reason: str
    details: dict[str, Any]


def moved(state: ClusterState) -> Drift | None:
    return None
