"""Judge what a method says about change: evolution events, and whether clusters survive a slightly other stream.

Rules
  1. An event finds a true change of the same lineage when its prompt is at most `WINDOW` of the lineage's prompts
     after the change. All events of a lineage at one prompt are one detection, and a detection finds one change.
  2. It names the change rightly when every change it claims fits the kind. A template replaced by an unlike one
     may rightly be a new cluster, so there CREATED counts as well.
  3. Every other detection is a false alarm, but while the first template is still being learnt (`LEARNING` prompts).
  4. A cluster survives when its prompts, as far as both streams hold them, stand together again (Jaccard >= .9).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.bench.quality.scoring import Scores

WINDOW = 50
LEARNING = 30
UNLIKE = 0.5  # similarity of the wording before and after, below which it is another template
CREATED = "CREATED"
CHANGES = frozenset({"UPDATED", "SLOT_ADDED", "SLOT_REMOVED", "DRIFT_DETECTED"})
NAMES_OF_KIND = {
    "reworded": frozenset({"UPDATED"}),
    "slot_added": frozenset({"SLOT_ADDED"}),
    "slot_removed": frozenset({"SLOT_REMOVED"}),
    "topic_drift": frozenset({"DRIFT_DETECTED"}),
    "replaced": frozenset({"UPDATED", "DRIFT_DETECTED", CREATED}),
}
SURVIVOR_SIZE_MIN = 5
SURVIVOR_JACCARD = 0.9

Place = tuple[str, int]  # lineage, rank of the prompt in it


@dataclass(frozen=True, slots=True)
class Change:
    """A true change: from this prompt on, the caller's template is another."""

    lineage: str
    kind: str
    prompt_id: str
    similarity: float = 1.0

    @property
    def may_be_new(self) -> bool:
        return self.kind == "replaced" or self.similarity < UNLIKE


def judge(lineages: Sequence[tuple[str, str]], changes: Iterable[Change], events: Iterable[tuple[str, str]]) -> Scores:
    """Return F1 and the like; `lineages` are (prompt id, lineage) in order, `events` are (type, prompt id)."""
    place = _places(lineages)
    detections, unknown = _detections(events, place)
    true = sorted(changes, key=lambda change: place[change.prompt_id][1])
    used: set[Place] = set()
    named = 0
    by_kind: Counter[str] = Counter()
    for change in true:
        by_kind[f"{change.kind} true"] += 1
        found = _first(change, place[change.prompt_id][1], detections, used)
        if found is not None:
            used.add(found)
            fits = _fits(change, detections[found])
            named += fits
            by_kind[f"{change.kind} found"] += 1
            by_kind[f"{change.kind} named"] += fits
    changed = {change.lineage for change in true}
    spurious = [at for at, types in detections.items() if at not in used and types & CHANGES and at[1] > LEARNING]
    false_alarms = len(spurious) + unknown
    precision = len(used) / max(1, len(used) + false_alarms)
    recall = len(used) / max(1, len(true))
    controls = {lineage for _, lineage in lineages} - changed
    return {
        "changes": len(true),
        "found": len(used),
        "named": named,
        "false alarms": false_alarms,
        "evolution F1": 2 * precision * recall / max(1e-12, precision + recall),
        "kind named": named / max(1, len(true)),
        "controls": len(controls),
        "false alarms in controls": sum(lineage in controls for lineage, _ in spurious),
        **{name: float(count) for name, count in sorted(by_kind.items())},
    }


def survival(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> float:
    """Return the share of clusters that survive; both map prompt ids to clusters."""
    both = before.keys() & after.keys()
    old, new = _members(before, both), _members(after, both)
    grown = [members for members in old.values() if len(members) >= SURVIVOR_SIZE_MIN]
    lived = 0
    for members in grown:
        heirs = Counter(home for prompt in members if (home := after[prompt]) is not None)
        lived += any(
            len(members & new[heir]) >= SURVIVOR_JACCARD * len(members | new[heir]) for heir, _ in heirs.most_common(1)
        )
    return lived / max(1, len(grown))


def _places(lineages: Sequence[tuple[str, str]]) -> dict[str, Place]:
    ranks: Counter[str] = Counter()
    places: dict[str, Place] = {}
    for prompt_id, lineage in lineages:
        ranks[lineage] += 1
        places[prompt_id] = (lineage, ranks[lineage])
    return places


def _detections(events: Iterable[tuple[str, str]], place: Mapping[str, Place]) -> tuple[dict[Place, set[str]], int]:
    """Return the types claimed at each place, and how many changes were claimed at unknown prompts."""
    detections: dict[Place, set[str]] = defaultdict(set)
    unknown = 0
    for kind, prompt_id in events:
        if kind not in CHANGES and kind != CREATED:
            continue
        if prompt_id in place:
            detections[place[prompt_id]].add(kind)
        else:
            unknown += kind in CHANGES
    return detections, unknown


def _first(change: Change, start: int, detections: Mapping[Place, set[str]], used: set[Place]) -> Place | None:
    accepted = CHANGES | {CREATED} if change.may_be_new else CHANGES
    hits = [
        at
        for at, types in detections.items()
        if at[0] == change.lineage and at not in used and 0 <= at[1] - start <= WINDOW and types & accepted
    ]
    return min(hits, default=None)


def _fits(change: Change, types: set[str]) -> bool:
    new = {CREATED} if change.may_be_new else set()
    return types & (CHANGES | new) <= NAMES_OF_KIND[change.kind] | new


def _members(homes: Mapping[str, str | None], prompts: Iterable[str]) -> dict[str, set[str]]:
    members: dict[str, set[str]] = defaultdict(set)
    for prompt in prompts:
        home = homes[prompt]
        if home is not None:
            members[home].add(prompt)
    return members
