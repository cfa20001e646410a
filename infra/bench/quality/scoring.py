"""Compare predicted clusters and templates with labelled ones, by the measures of the log-parsing literature.

    GA    share of prompts whose predicted group is exactly their true one (Zhu et al. 2019)
    FGA   F1 over groups; a predicted group counts when it is exactly a true one (Jiang et al. 2024)
    PA    share of prompts whose predicted template equals the true one
    FTA   F1 over templates: groups that are exact and whose template is equal (Khan et al. 2022)
    1-1   share of prompts in the best one-to-one pairing of clusters with families, greedy, largest overlap first
    B3    B-cubed F1: how pure and how whole the group of a prompt is, on average (Bagga and Baldwin 1998)

Rules
  1. A prompt left without a cluster is wrong itself, but does not spoil the group of the others.
  2. One-off prompts (no true family) are judged apart: they must stay out of families, and out of clusters at all.
  3. Templates are compared twice. Strictly: as they are, slot names and runs of white space aside. Leniently: which
     side owns the marks between a constant and a slot cannot be seen in the text, so they are dropped, and slots
     that then touch are one.
  4. Round trip is the share of clustered prompts whose template, filled with its slots, is the text byte for byte.

Intuition: two people sort the same letters into boxes. Which of their boxes hold exactly the same letters?
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

SLOT = re.compile(r"\{\{([^{}]*)\}\}")
ANY_SLOT = "{{*}}"
SLOTS_WITH_MARKS = re.compile(r"[^\w{}]*(?:\{\{\*\}\}[^\w{}]*)+")

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt and the truth about it; a one-off prompt has no family."""

    id: str
    text: str
    family: str | None
    template: str | None = None
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says of a prompt; no cluster = it stands alone, no template = the method makes none."""

    cluster: str | None
    template: str | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    raw: bool = False  # the template did not parse it: the text is stored as it is


ALONE = Prediction(None)


class Comparison:
    """Predictions laid beside the truth. Groups are sets of positions in `real`."""

    def __init__(self, truth: Sequence[Labelled], predictions: Mapping[str, Prediction]) -> None:
        self.all = [(row, predictions.get(row.id, ALONE)) for row in truth]
        self.real = [pair for pair in self.all if pair[0].family is not None]
        self.oneoffs = [said for row, said in self.all if row.family is None]
        self.families = _groups([row.family for row, _ in self.real])
        self.clusters = _groups([said.cluster for _, said in self.real])
        self.alone = self.clusters.pop(None, set())
        self.exact = {
            cluster
            for cluster, members in self.clusters.items()
            if self.families[self.real[min(members)][0].family] - self.alone == members
        }

    def f1_of(self, right: int) -> float:
        """Return F1 of so many right groups among those predicted and those true."""
        return _f1(right / max(1, len(self.clusters)), right / max(1, len(self.families)))

    def share(self, right: Sequence[bool]) -> float:
        return sum(right) / max(1, len(right))


def score(truth: Sequence[Labelled], predictions: Mapping[str, Prediction]) -> Scores:
    """Return every measure, with those of each variant as `GA/<variant>` and `1-1/<variant>`."""
    seen = Comparison(truth, predictions)
    scores: Scores = {
        "prompts": len(seen.real),
        "families": len(seen.families),
        "clusters": len(seen.clusters),
        "B3": _b_cubed(seen),
        "FGA": seen.f1_of(len(seen.exact)),
        "unclustered": len(seen.alone) / max(1, len(seen.real)),
    }
    scores |= _by_variant(seen, "GA", [said.cluster in seen.exact for _, said in seen.real])
    scores |= _by_variant(seen, "1-1", _paired(seen))
    if any(said.template is not None for _, said in seen.all):
        scores |= _of_templates(seen)
    if seen.oneoffs:
        scores |= _of_oneoffs(seen)
    return scores


def comparable(template: str, *, strict: bool) -> str:
    """Return a template as it is compared (rule 3)."""
    text = SLOT.sub(ANY_SLOT, template)
    if not strict:
        text = SLOTS_WITH_MARKS.sub(ANY_SLOT, text)
    return " ".join(text.split())


def filled(template: str, slots: Mapping[str, str]) -> str:
    """Return a template with its slots filled; a slot without a value stays as it is."""
    return SLOT.sub(lambda match: slots.get(match[1].strip(), match[0]), template)


def _of_templates(seen: Comparison) -> Scores:
    scores: Scores = {}
    for suffix, strict in (("", False), (" strict", True)):
        shapes: dict[str, str] = {}

        def shape(template: str | None, strict: bool = strict, shapes: dict[str, str] = shapes) -> str:
            known = template or ""
            if known not in shapes:
                shapes[known] = comparable(known, strict=strict)
            return shapes[known]

        equal = [said.cluster is not None and shape(said.template) == shape(row.template) for row, said in seen.real]
        right = sum(all(equal[position] for position in seen.clusters[cluster]) for cluster in seen.exact)
        scores["PA" + suffix] = seen.share(equal)
        scores["FTA" + suffix] = seen.f1_of(right)
    placed = [(row, said) for row, said in seen.all if said.cluster is not None]
    scores["round trip"] = seen.share([filled(said.template or "", said.slots) == row.text for row, said in placed])
    scores["raw"] = seen.share([said.raw or said.template == row.text for row, said in placed])
    return scores


def _of_oneoffs(seen: Comparison) -> Scores:
    homes = [said.cluster for said in seen.oneoffs]
    return {
        "one-offs": len(homes),
        "noise in families": seen.share([home in seen.clusters for home in homes]),
        "noise in own clusters": seen.share([home is not None and home not in seen.clusters for home in homes]),
    }


def _by_variant(seen: Comparison, measure: str, right: Sequence[bool]) -> Scores:
    tallies: dict[str, list[bool]] = defaultdict(list)
    for (row, _), is_right in zip(seen.real, right, strict=True):
        tallies[row.variant].append(is_right)
    variants = {f"{measure}/{name}": seen.share(tally) for name, tally in sorted(tallies.items()) if name}
    return {measure: seen.share(right), **variants}


def _paired(seen: Comparison) -> list[bool]:
    """Tell of each prompt whether its cluster is paired with its family."""
    overlaps = Counter((said.cluster, row.family) for row, said in seen.real if said.cluster is not None)
    # A prompt that stands alone is a cluster of one, which a family without any other may be paired with.
    singles = {row.family: position for position, (row, said) in enumerate(seen.real) if said.cluster is None}
    of_cluster: dict[Hashable, str | None] = {}
    taken: set[str | None] = set()
    for (cluster, family), _ in sorted(overlaps.items(), key=lambda item: (-item[1], str(item[0]))):
        if cluster not in of_cluster and family not in taken:
            of_cluster[cluster] = family
            taken.add(family)
    lonely = {position for family, position in singles.items() if family not in taken}
    return [
        position in lonely if said.cluster is None else of_cluster.get(said.cluster) == row.family
        for position, (row, said) in enumerate(seen.real)
    ]


def _b_cubed(seen: Comparison) -> float:
    size = max(1, len(seen.real))
    families = [row.family for row, _ in seen.real]
    clusters = [said.cluster for _, said in seen.real]
    alone = len(seen.alone)  # each is a group of its own: wholly pure, and one of its family
    precision = alone + sum(_squares(families, members) / len(members) for members in seen.clusters.values())
    recall = sum(_squares(clusters, members) / len(members) for members in seen.families.values())
    return _f1(precision / size, recall / size)


def _squares(labels: Sequence[str | None], members: set[int]) -> int:
    counts = Counter(labels[member] for member in members)
    return counts.pop(None, 0) + sum(count * count for count in counts.values())


def _groups(labels: Sequence[str | None]) -> dict[str | None, set[int]]:
    groups: dict[str | None, set[int]] = defaultdict(set)
    for position, label in enumerate(labels):
        groups[label].add(position)
    return dict(groups)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
