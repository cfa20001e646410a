"""The two things the engine remembers: prompts it keeps in full, and clusters of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.prompts import Moderation, Prompt
from streams.prompts.clustering.compiled import vectors
from streams.prompts.clustering.index import Index
from streams.prompts.clustering.shingles import EMPTY, Shingles
from streams.prompts.clustering.sketch import Sketch, sketches

Vector = NDArray[np.int8]  # a unit vector, one step = 1/256
VECTOR_SCALE = 256
# A centroid is the sum of its members' vectors. It is halved from here on, which keeps sums exact in
# float64 (127 * 4,096 squared, 8,192 dimensions, is below 2^53) and lets an old centroid still follow its prompts.
CENTROID_MEMBERS_MAX = 4_096


@dataclass(slots=True, eq=False)
class Kept:
    """A prompt kept in full: it waits for a cluster (`home` None) or is in the sample of one.

    `number` is the prompt's place among the tenant's prompts (0 before it is placed), `sequence` that of its newest
    assignment. `row_table` names the table its row lies in, None before the first write.
    """

    number: int
    prompt: Prompt
    moderation: Moderation
    vector: Vector
    sequence: int = 0
    home: int | None = None
    row_table: str | None = None
    index: Index | None = None  # derived: the one it stands in
    _sketch: Sketch | None = None  # one restored from its row has none until it is asked for
    _held: Shingles | None = None  # derived: constants of which it is known that it holds all

    @property
    def sketch(self) -> Sketch:
        if self._sketch is None:
            (self._sketch,) = sketches([self.prompt.text])
        return self._sketch

    @property
    def opening(self) -> int:
        """The first shingle; 0 if there is none."""
        order = self.sketch.order
        return int(order[0]) if order.size else 0

    @property
    def shingles(self) -> Shingles:
        return (self._sketch or self.sketch).shingles

    def holds(self, constants: Shingles) -> bool:
        """Tell whether the prompt holds all of these constants. Repairs ask again and again, so a yes is remembered."""
        if self._held is not constants:
            if not constants <= self.shingles:
                return False
            self._held = constants
        return True


@dataclass(slots=True, eq=False)
class Cluster:
    """Prompts filled from one template.

    `ordinal` counts the tenant's clusters and is the short name inside the engine. `size` counts all
    members, `kept` holds the sampled ones by number. `signature` are the constants. A retired cluster
    has neither sample nor centroid, and at most a stub of its signature.
    """

    ordinal: int
    cluster_id: str
    born: int
    fed: int
    check_at: int
    size: int
    centroid: NDArray[np.float64]  # integers, held in float64 to be exact and quick to compute with
    centroid_members: int = 0
    signature: Shingles = EMPTY
    anchors: int = 0
    retired: bool = False
    index: Index | None = None  # derived: the one in which its sample stands
    due: bool = False  # derived: its repair is
    kept: dict[int, Kept] = field(default_factory=dict)
    kept_chars: int = 0  # derived

    def sample(self) -> list[Kept]:
        """The kept members, oldest first."""
        return [self.kept[number] for number in sorted(self.kept)]

    def set_signature(self, signature: Shingles) -> None:
        self.signature = signature
        self.anchors = signature.ends

    def pull(self, vector: Vector) -> None:
        """Draw the centroid towards a new member."""
        vectors.add(self.centroid, vector, 1)
        self.centroid_members += 1
        if self.centroid_members >= CENTROID_MEMBERS_MAX:
            np.floor_divide(self.centroid, 2, out=self.centroid)
            self.centroid_members //= 2

    def release(self, vector: Vector) -> None:
        """Take a leaving member out of the centroid."""
        vectors.add(self.centroid, vector, -1)
        self.centroid_members = max(0, self.centroid_members - 1)

    def cosine(self, kept: Kept) -> float:
        """Cosine of a prompt to the centroid."""
        return vectors.cosine(self.centroid, kept.vector)

    def add_centroid(self, other: Cluster) -> None:
        """Take over what another cluster's members add up to."""
        self.centroid += other.centroid
        self.centroid_members += other.centroid_members

    def clear_centroid(self) -> None:
        self.centroid[:] = 0
        self.centroid_members = 0
