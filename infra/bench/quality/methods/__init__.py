"""The methods that are measured. Each takes a stream of texts and says which belong together."""

from __future__ import annotations

from infra.bench.quality.methods.drain import DRAIN
from infra.bench.quality.methods.embeddings import EMBEDDINGS, HDBSCAN
from infra.bench.quality.methods.lcs import LCS
from infra.bench.quality.methods.method import Method, Outcome
from infra.bench.quality.methods.promptloom import PROMPTLOOM

METHODS: dict[str, Method] = {method.name: method for method in (PROMPTLOOM, DRAIN, EMBEDDINGS, HDBSCAN, LCS)}

__all__ = ["METHODS", "Method", "Outcome"]
