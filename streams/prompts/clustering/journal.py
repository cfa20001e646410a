"""What a prompt's arrival changed, as records for the next stage.

Within one arrival a prompt may move twice and a cluster may come and go; only the net effect is told: at most one
MOVED record a prompt, and no word of a cluster that did not outlive the arrival.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from schemas.prompts import Assignment, ClusterChange, ClusterChangeKind, ClusteredStep, Decision, Prompt
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.match import Match
from streams.prompts.clustering.policy import ALGORITHM, Policy

SHARE_DIGITS = 4  # of shares and cosines in records: enough to read, and the same on every machine
_SHARE_STEPS = 10.0**SHARE_DIGITS
_DOUBT = 1e-6  # of a step: nearer to the middle between two steps, a product does not tell which one is nearer
SHARES_CACHED = 4_096  # what is said about them is kept: a settled cluster says the same again and again


@dataclass(slots=True)
class _Move:
    kept: Kept
    origin: str | None
    target: Cluster | None
    reason: str
    structure: float


class Journal:
    """Collects the steps of one arrival."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._assignments: list[ClusteredStep] = []
        self._changes: list[ClusterChange] = []
        self._moves: dict[int, _Move] = {}
        self._founded: set[str] = set()
        self._gone: set[str] = set()

    def assigned(self, kept: Kept, cluster: Cluster | None, match: Match) -> None:
        """Note the first answer for the prompt that arrived."""
        self._assignments.append(
            ClusteredStep.trusted(assignment=first_assignment(kept, cluster, match, self._policy), change=None)
        )

    def changed(
        self, kind: ClusterChangeKind, cluster_id: str, prompt: Prompt, reason: str, others: tuple[str, ...] = ()
    ) -> None:
        """Note something that happened to a cluster; `prompt` is its newest member."""
        if kind is ClusterChangeKind.FOUNDED:
            self._founded.add(cluster_id)
        elif kind is ClusterChangeKind.DISSOLVED:
            self._gone.add(cluster_id)
        elif kind is ClusterChangeKind.MERGED:
            self._gone.update(others)
        self._changes.append(
            ClusterChange(
                kind=kind,
                tenant=prompt.tenant,
                cluster_id=cluster_id,
                other_cluster_ids=others,
                prompt_id=prompt.prompt_id,
                partition=prompt.partition,
                offset=prompt.offset,
                occurred_at_ms=prompt.created_at_ms,
                reason=reason,
            )
        )

    def moved(self, kept: Kept, origin: str | None, target: Cluster | None, reason: str, structure: float) -> None:
        """Note that a kept prompt changed its cluster."""
        move = self._moves.pop(kept.number, None)
        self._moves[kept.number] = _Move(kept, move.origin if move else origin, target, reason, structure)

    def merged(self, target: Cluster, source: Cluster) -> None:
        """Let moves of this arrival into a merged cluster end in the one that took it over."""
        for move in self._moves.values():
            if move.target is source:
                move.target = target

    def take(self) -> list[ClusteredStep]:
        """Return the steps and empty the journal."""
        if not self._changes and not self._moves:  # as after almost every arrival
            steps, self._assignments = self._assignments, []
            return steps
        transient = self._founded & self._gone
        steps = self._assignments
        for change in self._changes:
            others = tuple(other for other in change.other_cluster_ids if other not in transient)
            if change.cluster_id in transient or (change.other_cluster_ids and not others):
                continue
            steps.append(ClusteredStep(change=change.model_copy(update={"other_cluster_ids": others})))
        for _, move in sorted(self._moves.items()):
            if move.origin != (move.target.cluster_id if move.target else None):
                move.kept.sequence += 1
                steps.append(ClusteredStep.trusted(assignment=_moved_assignment(move, self._policy), change=None))
        self._assignments, self._changes, self._moves = [], [], {}
        self._founded, self._gone = set(), set()
        return steps


def first_assignment(kept: Kept, cluster: Cluster | None, match: Match, policy: Policy) -> Assignment:
    """Return the first link of a prompt's chain, with the record of why."""
    nearest, second, gate = match.nearest, match.second, match.gate
    nearest_id = second_id = None
    structure = meaning = runner_up = second_meaning = 0.0
    if nearest is not None:
        nearest_id, structure, meaning = nearest.cluster.cluster_id, nearest.share, rounded(nearest.cosine(kept))
    if second is not None:
        second_id, second_meaning = second.cluster.cluster_id, rounded(second.cosine(kept))
        runner_up = second.share if second.covers else second.count_share
    structure, runner_up, margin = _compared(structure, runner_up)
    decision = Decision.trusted(
        gate=gate,
        nearest_cluster_id=nearest_id,
        nearest_structure=structure,
        nearest_meaning=meaning,
        second_cluster_id=second_id,
        second_structure=runner_up,
        second_meaning=second_meaning,
        margin=margin,
        algorithm=ALGORITHM,
        policy_version=policy.version,
    )
    similarity = meaning if gate == "meaning" else structure
    return Assignment.trusted(
        prompt=kept.prompt,
        moderation=kept.moderation,
        sequence=kept.sequence,
        cluster_id=cluster.cluster_id if cluster else None,
        previous_cluster_id=None,
        similarity=similarity if cluster else 0.0,
        confidence=_confidence(similarity, margin) if cluster else 0.0,
        reasoning=_reasoning(cluster, decision, policy),
        decision=decision,
        duplicate=False,
    )


def _moved_assignment(move: _Move, policy: Policy) -> Assignment:
    kept, target = move.kept, move.target
    structure = rounded(move.structure)
    decision = Decision.trusted(
        gate="moved",
        nearest_cluster_id=target.cluster_id if target else None,
        nearest_structure=structure,
        nearest_meaning=rounded(target.cosine(kept)) if target else 0.0,
        second_cluster_id=move.origin,
        second_structure=0.0,
        second_meaning=0.0,
        margin=0.0,
        algorithm=ALGORITHM,
        policy_version=policy.version,
    )
    return Assignment.trusted(
        prompt=kept.prompt,
        moderation=kept.moderation,
        sequence=kept.sequence,
        cluster_id=target.cluster_id if target else None,
        previous_cluster_id=move.origin,
        similarity=structure,
        confidence=_confidence(structure, structure) if target else 0.0,
        reasoning=move.reason,
        decision=decision,
        duplicate=False,
    )


@lru_cache(SHARES_CACHED)
def _compared(structure: float, runner_up: float) -> tuple[float, float, float]:
    """Return two shares and the margin between them, as records show them."""
    structure, runner_up = rounded(structure), rounded(runner_up)
    return structure, runner_up, rounded(structure - runner_up)


@lru_cache(SHARES_CACHED)
def _confidence(similarity: float, margin: float) -> float:
    """Holding all constants counts most; a close second choice takes up to a third away."""
    return rounded(max(0.0, min(1.0, similarity)) * (2 + min(1.0, max(0.0, margin) / 0.3)) / 3)


def _reasoning(cluster: Cluster | None, decision: Decision, policy: Policy) -> str:
    if cluster is None:
        if decision.nearest_cluster_id is None:
            return "shares no constants with any cluster; waits for prompts like it"
        return (
            f"holds only {decision.nearest_structure:.0%} of the nearest cluster's constants, and a member needs "
            f"{policy.cover_percent}%; waits for prompts like it"
        )
    if decision.gate == "meaning":
        return (
            f"short prompt with {decision.nearest_structure:.0%} of the constants; "
            f"its meaning is {decision.nearest_meaning:.2f} close to the centroid, {policy.meaning_min:g} is enough"
        )
    if decision.gate == "tie":
        return (
            f"two clusters explain it alike; its meaning is {decision.nearest_meaning:.2f} close to this one's "
            f"centroid, {decision.second_meaning:.2f} to the other's"
        )
    return _held(decision.nearest_structure, decision.second_structure)


@lru_cache(SHARES_CACHED)
def _held(held: float, next_held: float) -> str:
    return f"holds {held:.0%} of the cluster's constants, and {next_held:.0%} of the next cluster's"


def rounded(value: float) -> float:
    """Return the very number that `round` does, which writes and reads a text to find it."""
    steps = value * _SHARE_STEPS + 0.5
    whole = math.floor(steps)
    if whole and _DOUBT < steps - whole < 1 - _DOUBT:  # 0 has a sign
        return whole / _SHARE_STEPS
    return round(value, SHARE_DIGITS)
