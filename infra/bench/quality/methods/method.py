"""What a method is to the bench: a name, settings to choose the best of, and a function from texts to clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from infra.bench.quality.scoring import Labelled, Prediction


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method said of a stream. Events are (type, prompt id), for methods that see change."""

    predictions: Mapping[str, Prediction]
    cpu_seconds: float  # of placing every prompt, embeddings included
    embedding_cpu_seconds: float = 0.0
    events: Sequence[tuple[str, str]] = ()


Run = Callable[[Sequence[Labelled]], Outcome]


@dataclass(frozen=True, slots=True)
class Method:
    """`settings` are tried in turn; `files` are the sources its answers depend on."""

    name: str
    what: str
    settings: Mapping[str, Run]
    files: tuple[str, ...]  # globs from the root of the repository
    online: bool = True  # sees prompts one by one; otherwise the order cannot matter
    sees_change: bool = False
    default: str = field(default="")  # setting shown beside the best one, where there is a usual one
