"""What a tenant's engine remembers, and the few operations that change it.

Primary state is what the rows hold: clusters, kept prompts, counters. Everything else here (indexes, weights, the pool
of founding candidates, the queue of due repairs) is a function of it and kept in step by these operations, so an engine
built from rows continues exactly as the one that wrote them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort

import numpy as np

from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.evidence import CLUSTER_COUNTS, Evidence
from streams.prompts.clustering.index import Index
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.shingles import EMPTY, Shingles

# Text kept for one cluster and for all waiting prompts of a tenant, in characters. A cluster of 500-character prompts
# keeps its full sample; one of very long prompts keeps fewer, though never fewer than found a cluster.
KEPT_CHARS_MAX = 131_072
KEPT_MIN = 4
FIRST_CHECK = 8  # members at which a cluster is repaired for the first time
WAITING_CHARS_MAX = 16 * 1024 * 1024


class State:
    """Clusters and kept prompts of one tenant, with everything derived from them."""

    def __init__(self, policy: Policy, embedder: str, dimension: int) -> None:
        self.policy = policy
        self.embedder = embedder
        self.dimension = dimension
        self.now = 0  # prompts of the tenant so far
        self.next_ordinal = 1
        self.repair_cursor = 0  # the cluster under repair
        self.repair_slice = 0  # which of its slices is next
        self.clusters: dict[int, Cluster] = {}
        self.ids_taken: set[str] = set()
        self.kept: dict[int, Kept] = {}
        self.waiting: list[int] = []  # numbers, ascending
        self.waiting_chars = 0
        self.member_chars = 0  # derived: of all samples together
        self.by_constant = Index()  # shingle -> ordinals
        self.pool = Index()  # shingle -> numbers of founding candidates
        self.claimable = Index()  # shingle -> numbers of prompts whose cluster knows no end of theirs
        self.evidence = Evidence(self.by_constant, self.pool)
        self.due: list[int] = []  # ordinals of clusters whose repair is due, ascending
        self.by_fed: list[tuple[int, int]] = []  # heap of (fed, ordinal), lazily corrected
        self.retired: list[tuple[int, int]] = []  # (fed, ordinal) of retired clusters, ascending
        self.changed_clusters: set[int] = set()
        self.changed_signatures: set[int] = set()
        self.changed_kept: set[int] = set()
        self.removed_rows: list[tuple[str, str]] = []  # (table, last part of the key)

    # Kept prompts.

    def wait(self, kept: Kept) -> None:
        """Let a prompt wait for a cluster."""
        kept.home = None
        self.kept[kept.number] = kept
        self.changed_kept.add(kept.number)
        insort(self.waiting, kept.number)
        self.waiting_chars += len(kept.prompt.text)
        self._stand(kept, self.pool)

    def stop_waiting(self, kept: Kept) -> None:
        """Let a prompt wait no longer; in its index it stands until it has another place."""
        del self.waiting[bisect_left(self.waiting, kept.number)]
        self.waiting_chars -= len(kept.prompt.text)

    def forget(self, kept: Kept) -> None:
        """Drop a kept prompt that neither waits nor has a home."""
        self._stand(kept, None)
        del self.kept[kept.number]
        self.changed_kept.discard(kept.number)
        if kept.row_table is not None:
            self.removed_rows.append((kept.row_table, str(kept.number)))

    def keep_member(self, cluster: Cluster, kept: Kept) -> None:
        """Take a prompt into a cluster's sample."""
        kept.home = cluster.ordinal
        self.kept[kept.number] = kept
        self.changed_kept.add(kept.number)
        cluster.kept[kept.number] = kept
        cluster.kept_chars += len(kept.prompt.text)
        self.member_chars += len(kept.prompt.text)
        self._stand(kept, cluster.index)

    def drop_member(self, cluster: Cluster, kept: Kept) -> None:
        """Take a prompt out of a cluster's sample; in its index it stands until it has another place."""
        del cluster.kept[kept.number]
        cluster.kept_chars -= len(kept.prompt.text)
        self.member_chars -= len(kept.prompt.text)
        kept.home = None

    def readmit(self, kept: Kept) -> None:
        """Take a kept prompt back from its row."""
        if kept.home is None:
            self.wait(kept)
            return
        cluster = self.clusters[kept.home]
        self.kept[kept.number] = kept
        cluster.kept[kept.number] = kept
        cluster.kept_chars += len(kept.prompt.text)
        self.member_chars += len(kept.prompt.text)
        self._stand(kept, cluster.index)

    def forget_changes(self) -> None:
        """Regard every row as written."""
        self.changed_clusters.clear()
        self.changed_signatures.clear()
        self.changed_kept.clear()
        self.removed_rows.clear()

    # Clusters.

    def open_cluster(self, cluster_id: str) -> Cluster:
        cluster = Cluster(
            self.next_ordinal,
            cluster_id,
            born=self.now,
            fed=self.now,
            check_at=FIRST_CHECK,
            size=0,
            centroid=np.zeros(self.dimension),
            index=self.pool,
        )
        self.next_ordinal += 1
        self.install(cluster)
        self.changed_clusters.add(cluster.ordinal)
        return cluster

    def install(self, cluster: Cluster) -> None:
        """Enter a cluster without sample or signature."""
        self.clusters[cluster.ordinal] = cluster
        self.ids_taken.add(cluster.cluster_id)
        self.evidence.resize(CLUSTER_COUNTS)
        if cluster.retired:
            insort(self.retired, (cluster.fed, cluster.ordinal))
        else:
            heapq.heappush(self.by_fed, (cluster.fed, cluster.ordinal))

    def close_cluster(self, cluster: Cluster) -> None:
        """Remove a cluster whose sample is empty."""
        self.sign(cluster, EMPTY)
        if cluster.retired:
            self.retired.remove((cluster.fed, cluster.ordinal))
        self._set_due(cluster, due=False)
        del self.clusters[cluster.ordinal]
        self.ids_taken.discard(cluster.cluster_id)
        self.evidence.resize(-CLUSTER_COUNTS)
        self.changed_clusters.discard(cluster.ordinal)
        self.changed_signatures.discard(cluster.ordinal)
        self.removed_rows += [("centroids", cluster.cluster_id), ("signatures", cluster.cluster_id)]

    def sign(self, cluster: Cluster, signature: Shingles) -> None:
        """Give a cluster other constants."""
        if cluster.signature.size == signature.size and cluster.signature <= signature:
            return
        gone, come = cluster.signature - signature, signature - cluster.signature
        self.by_constant.take_out(gone, cluster.ordinal)
        self.by_constant.insert(come, cluster.ordinal)
        cluster.set_signature(signature)
        self.changed_signatures.add(cluster.ordinal)
        self._index_anew(cluster)

    def resize(self, cluster: Cluster, change: int) -> None:
        """Count members in or out, and let what depends on the size follow."""
        cluster.size += change
        self.changed_clusters.add(cluster.ordinal)
        self.refresh(cluster)

    def refresh(self, cluster: Cluster) -> None:
        """Bring what is derived from a cluster's size in step."""
        self._set_due(cluster, due=cluster.size >= cluster.check_at and not cluster.retired)
        self._index_anew(cluster)

    def retire(self, cluster: Cluster) -> None:
        """Cut a cluster with an empty sample down to a stub: the constants with the smallest hashes, a fair sample."""
        cluster.retired = True
        cluster.clear_centroid()
        insort(self.retired, (cluster.fed, cluster.ordinal))
        self.sign(cluster, Shingles(cluster.signature.array[: self.policy.stub_constants_max].copy()))
        self.resize(cluster, 0)

    def revive(self, cluster: Cluster) -> None:
        """Make a retired cluster active again; it learns its constants anew from the stub."""
        self.retired.remove((cluster.fed, cluster.ordinal))
        cluster.retired = False
        cluster.fed = self.now
        cluster.size = 0
        cluster.check_at = FIRST_CHECK
        heapq.heappush(self.by_fed, (cluster.fed, cluster.ordinal))
        self.resize(cluster, 0)

    def _set_due(self, cluster: Cluster, *, due: bool) -> None:
        if due is cluster.due:
            return
        cluster.due = due
        place = bisect_left(self.due, cluster.ordinal)
        if due:
            self.due.insert(place, cluster.ordinal)
        else:
            del self.due[place]

    def next_due(self) -> Cluster | None:
        """Return the next cluster to repair, in turn, and move the cursor to it."""
        if not self.due:
            return None
        place = bisect_left(self.due, self.repair_cursor + 1)
        self.repair_cursor = self.due[place if place < len(self.due) else 0]
        return self.clusters[self.repair_cursor]

    @property
    def crowded(self) -> bool:
        """Whether there are more clusters than the tenant may have, or their samples hold more text."""
        active = len(self.clusters) - len(self.retired)
        return active > self.policy.clusters_max or self.member_chars > self.policy.member_chars_max

    @property
    def all_fed_since(self) -> int:
        """The prompt since which every active cluster was fed, if not a later one."""
        return self.by_fed[0][0] if self.by_fed else self.now

    def longest_unfed(self) -> Cluster | None:
        """Return the active cluster that was fed the longest ago."""
        while self.by_fed:
            fed, ordinal = self.by_fed[0]
            cluster = self.clusters.get(ordinal)
            if cluster is None or cluster.retired:
                heapq.heappop(self.by_fed)
            elif cluster.fed != fed:
                heapq.heapreplace(self.by_fed, (cluster.fed, ordinal))
            else:
                return cluster
        return None

    def _index_anew(self, cluster: Cluster) -> None:
        """Let others found clusters of a young one's sample, and claim that of one without an end of its prompts.

        Constants that stand only amid prompts may be a popular value, which the slots of many templates hold.
        """
        index: Index | None = None
        if not cluster.retired and cluster.size < self.policy.tentative_below:
            index = self.pool
        elif not cluster.retired and not cluster.anchors:
            index = self.claimable
        if index is cluster.index:
            return
        cluster.index = index
        for kept in cluster.sample():
            self._stand(kept, index)

    def _stand(self, kept: Kept, index: Index | None) -> None:
        """Let a prompt stand in this index, and in no other."""
        if index is kept.index:
            return
        if kept.index is not None:
            kept.index.take_out(kept.shingles, kept.number)
        if index is not None:
            index.insert(kept.shingles, kept.number)
        self.evidence.resize((index is self.pool) - (kept.index is self.pool))
        kept.index = index
