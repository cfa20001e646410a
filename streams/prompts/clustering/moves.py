"""Prompts joining, leaving and moving between clusters: the steps all decisions are made of.

Whatever decides (founding, repairs) goes through `Moves`, which keeps the state and the journal in step. A cluster that
loses its last but one member, or the last one kept, dissolves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from schemas.ids import cluster_id
from schemas.prompts import ClusterChangeKind, Prompt
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.journal import Journal
from streams.prompts.clustering.match import Candidate
from streams.prompts.clustering.shingles import Shingles, held_by
from streams.prompts.clustering.state import KEPT_CHARS_MAX, KEPT_MIN, State

# A signature is learnt from a cluster's first members, and then holds: a run of prompts with one value in a slot
# would otherwise make that value a constant.
LEARNING_MEMBERS_MAX = 64
LEARN_ALWAYS_MAX = 12  # members up to which each newcomer teaches
LEARN_EVERY = 8  # later only every n-th does


class Moves:
    """Changes to the state of one tenant, told to its journal."""

    def __init__(self, tenant: str, state: State, journal: Journal) -> None:
        self._tenant = tenant
        self.state = state
        self._journal = journal

    def join(self, cluster: Cluster, kept: Kept) -> None:
        """Add the prompt that just arrived to a cluster."""
        cluster.fed = self.state.now
        self._enter(cluster, kept)
        self._learn_on_schedule(cluster, kept)

    def move(self, kept: Kept, target: Cluster | None, reason: str) -> None:
        """Move a kept prompt to another cluster, or back to the waiting ones."""
        state = self.state
        source = state.clusters[kept.home] if kept.home is not None else None
        if source is None:
            state.stop_waiting(kept)
        else:
            state.drop_member(source, kept)
            source.release(kept.vector)
            if source.size <= LEARN_ALWAYS_MAX:
                source.check_at = 0  # what it learnt may have been the leaving prompt's
            state.resize(source, -1)
        structure = Candidate(state, target, kept.shingles).share if target else 0.0
        self._journal.moved(kept, source.cluster_id if source else None, target, reason, structure)
        if target is None:
            state.wait(kept)
        else:
            self._enter(target, kept)
        if source is not None and (source.size < 2 or not source.kept):
            self.dissolve(source, kept.prompt)

    def found(self, members: list[Kept], signature: Shingles | None, reason: str) -> Cluster:
        """Found a cluster of kept prompts; without a signature, theirs is learnt at once."""
        state = self.state
        newest = max(members, key=lambda kept: kept.number)
        cluster = state.open_cluster(self._new_id(kept.prompt.prompt_id for kept in members))
        if signature is None:
            signature = constants(members, state.policy.keep_percent)
        state.sign(cluster, signature)
        self._journal.changed(ClusterChangeKind.FOUNDED, cluster.cluster_id, newest.prompt, reason)
        for kept in sorted(members, key=lambda kept: kept.number):
            self.move(kept, cluster, reason)
        self.learn(cluster)
        cluster.check_at = cluster.size
        state.refresh(cluster)
        return cluster

    def dissolve(
        self, cluster: Cluster, newest: Prompt, reason: str = "its prompts are explained better by other clusters"
    ) -> None:
        """Close a cluster; what is left of its sample waits again."""
        if cluster.ordinal not in self.state.clusters:
            return
        left = cluster.sample()
        for kept in left:
            self.state.drop_member(cluster, kept)
            self._journal.moved(kept, cluster.cluster_id, None, reason, 0.0)
            self.state.wait(kept)
        prompt = left[-1].prompt if left else newest
        self.state.close_cluster(cluster)
        self._journal.changed(ClusterChangeKind.DISSOLVED, cluster.cluster_id, prompt, reason)

    def absorb(self, target: Cluster, source: Cluster, signature: Shingles) -> None:
        """Merge one cluster into another under the constants that both have."""
        state = self.state
        sample = source.sample()
        newest = max((*sample, *target.sample()), key=lambda kept: kept.number).prompt
        for kept in sample:
            state.drop_member(source, kept)
        target.fed = max(target.fed, source.fed)
        target.check_at = 0  # what it may claim has changed
        state.resize(target, source.size)
        target.add_centroid(source)
        state.close_cluster(source)
        state.sign(target, signature)
        for kept in sample:
            state.keep_member(target, kept)
        self._trim(target)
        self._journal.merged(target, source)
        reason = "their constants are the same, only slot values differed"
        self._journal.changed(ClusterChangeKind.MERGED, target.cluster_id, newest, reason, (source.cluster_id,))

    def retire(self, cluster: Cluster) -> None:
        """Keep only a stub of a cluster that nobody feeds."""
        state = self.state
        newest = cluster.sample()[-1].prompt
        for kept in cluster.sample():
            state.drop_member(cluster, kept)
            state.forget(kept)
        state.retire(cluster)
        reason = f"not fed for {state.policy.retire_after} prompts of the tenant"
        self._journal.changed(ClusterChangeKind.RETIRED, cluster.cluster_id, newest, reason)

    def revive(self, cluster: Cluster, prompt: Prompt) -> None:
        """Take a retired cluster back, because a prompt holds its constants."""
        self.state.revive(cluster)
        self._journal.changed(ClusterChangeKind.REVIVED, cluster.cluster_id, prompt, "fed again")

    def forget_retired(self, prompt: Prompt) -> None:
        """Forget the oldest stub for good."""
        cluster = self.state.clusters[self.state.retired[0][1]]
        self.state.close_cluster(cluster)
        reason = f"forgotten: more than {self.state.policy.retired_max} clusters are retired"
        self._journal.changed(ClusterChangeKind.RETIRED, cluster.cluster_id, prompt, reason)

    def tell(
        self, kind: ClusterChangeKind, cluster: Cluster, newest: Prompt, reason: str, others: tuple[str, ...]
    ) -> None:
        """Note a change of a cluster that consists of moves already made."""
        self._journal.changed(kind, cluster.cluster_id, newest, reason, others)

    def learn(self, cluster: Cluster, *, anew: bool = False) -> None:
        """Take as constants what almost all kept members hold, while the cluster learns or if it starts anew."""
        policy = self.state.policy
        learning = anew or cluster.size <= LEARNING_MEMBERS_MAX
        if not learning or len(cluster.kept) < policy.founders_min:
            return
        signature = constants(cluster.kept.values(), policy.keep_percent)
        if signature.size >= policy.constants_min:
            self.state.sign(cluster, signature)

    def _learn_on_schedule(self, cluster: Cluster, newcomer: Kept) -> None:
        if cluster.size > LEARN_ALWAYS_MAX and cluster.size % LEARN_EVERY:
            return
        members = len(cluster.kept)
        unanimous = _needed(members, self.state.policy.keep_percent) == members
        if unanimous and newcomer.holds(cluster.signature):
            return  # constants are what all hold, and the newcomer holds them
        self.learn(cluster)

    def _enter(self, cluster: Cluster, kept: Kept) -> None:
        policy = self.state.policy
        self.state.resize(cluster, 1)
        if len(cluster.kept) < policy.members_kept_max or cluster.size % policy.sample_every == 0:
            cluster.pull(kept.vector)
            self.state.keep_member(cluster, kept)
            self._trim(cluster)
        elif kept.number in self.state.kept:
            self.state.forget(kept)

    def _trim(self, cluster: Cluster) -> None:
        while len(cluster.kept) > self.state.policy.members_kept_max or (
            cluster.kept_chars > KEPT_CHARS_MAX and len(cluster.kept) > KEPT_MIN
        ):
            oldest = cluster.kept[min(cluster.kept)]
            self.state.drop_member(cluster, oldest)
            self.state.forget(oldest)

    def _new_id(self, prompt_ids: Iterable[str]) -> str:
        """A cluster may have been founded by the same prompts before: then the time of founding tells them apart."""
        founders = list(prompt_ids)
        identity = cluster_id(self._tenant, founders)
        if identity in self.state.ids_taken:
            identity = cluster_id(self._tenant, [*founders, f"again at {self.state.now}.{self.state.next_ordinal}"])
        return identity


def constants(members: Collection[Kept], keep_percent: int) -> Shingles:
    """Return the shingles that almost all of these prompts hold."""
    return held_by([kept.shingles for kept in members], _needed(len(members), keep_percent))


def _needed(members: int, keep_percent: int) -> int:
    return max(2, -(-keep_percent * members // 100))
