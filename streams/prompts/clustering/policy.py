"""The numbers clustering decides by, each with its reason.

Weights are bits in fixed point (`BIT` = one bit), shares are percent: integers, so that a sum does not
depend on the order of its terms and a replay decides alike on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

ALGORITHM = "structure-5"  # named in every decision record; change it with any rule below
BIT = 1024  # one bit of evidence in fixed point


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds and bounds of one tenant's engine. A change takes effect at a restart, under a new `version`."""

    version: str = "1"

    # Gate one: structure.
    cover_percent: int = 80  # of a cluster's weighted constants that a member holds: an optional sentence may be absent
    keep_percent: int = 90  # of the kept members that must hold a shingle for it to be a constant
    constants_min: int = 3  # fewer shingles than this are a turn of phrase, not a template
    evidence_bits: int = 10  # constants lighter than this are shared by chance once in 1,000 pairs
    distinctive_bits: int = 40  # constants this heavy say by themselves which template a prompt was filled from

    # Gate two: meaning.
    meaning_min: float = 0.85  # cosine to the centroid; calibrated per embedder
    tie_percent: int = 10  # two structural scores closer than this are a tie, which the nearer centroid wins

    # Founding.
    founders_min: int = 3  # two prompts alike are a coincidence, three a template
    pair_percent: int = 45  # of its own weight a prompt must share when the witnesses are fewest
    witnesses_enough: int = 16  # with this many witnesses any share will do: a long slot cannot hide the template
    child_witnesses: int = 5  # what a more specific cluster needs inside an existing one

    # Repairs.
    repair_every: int = 1  # prompts of the tenant between two slices of repair work
    tentative_below: int = 16  # members of a younger cluster remain candidates for founding others
    group_constants_min: int = 5  # shingles that a part must have of its own to split off
    group_members_min: int = 3
    group_weight_percent: int = 30  # of the cluster's constants, or `pair_percent` of what its members have besides
    closed_percent: int = 85  # members that the parts must cover together to count as a partition
    wordings_max: int = 3  # alternatives that may count as wordings of one place

    # Bounds.
    clusters_max: int = 100_000  # active ones; beyond, the one that was fed the longest ago retires
    # Characters in all samples together; beyond, likewise. With sketch and indexes one costs up to 40 bytes of memory.
    member_chars_max: int = 128 * 1024 * 1024
    members_kept_max: int = 48  # of a cluster, in full
    sample_every: int = 4  # a cluster that has its sample keeps only every n-th further member
    waiting_max: int = 4_096  # prompts without a cluster that are kept
    waiting_age_max: int = 50_000  # prompts of the tenant after which a waiting one is noise
    retire_after: int = 200_000  # prompts of the tenant since a cluster was fed
    retired_max: int = 10_000  # retired clusters that are remembered
    stub_constants_max: int = 96  # constants of a retired cluster: 768 bytes, a row under 1 KiB
    recent_ids_max: int = 32_768  # prompt ids among which a duplicate is found

    # By (embedder, tenant), the `meaning_min` that `promptloom calibrate` measured.
    calibrated: Mapping[tuple[str, str], float] = field(default_factory=dict, hash=False)

    def of(self, tenant: str, embedder: str) -> Policy:
        """Return the policy with what was calibrated for this tenant's prompts, under a version that says so."""
        meaning_min = self.calibrated.get((embedder, tenant))
        if meaning_min is None:
            return self
        return replace(self, meaning_min=meaning_min, version=f"{self.version}+meaning {meaning_min:g}")
