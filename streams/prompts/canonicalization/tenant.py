"""All a tenant's clusters and families, and which of their rows were written.

Pure. Ages are counted here, in the tenant's prompts.
"""

from __future__ import annotations

from schemas import ids
from schemas.events import EvolutionEvent, EvolutionType
from streams.prompts.canonicalization import rows
from streams.prompts.canonicalization.announcements import Voice, announce
from streams.prompts.canonicalization.cluster import ClusterState
from streams.prompts.canonicalization.families import (
    SIBLING_MIN,
    Family,
    Resemblances,
    description_of,
    name_of,
)


class Tenant:
    """The state of one tenant's canonicalization."""

    def __init__(
        self,
        name: str,
        policy_version: str,
        clock: int = 0,
        clusters: dict[str, ClusterState] | None = None,
        families: dict[str, Family] | None = None,
    ) -> None:
        self.name = name
        self.voice = Voice(name, policy_version)
        self.clock = clock
        self.clusters = clusters if clusters is not None else {}
        self.families = families if families is not None else {}
        self.resemblances = Resemblances()
        for cluster_id in sorted(self.clusters):
            version = self.clusters[cluster_id].version
            if version is not None:
                self.resemblances.put(cluster_id, version.template)
        self._touched: dict[str, ClusterState] = {}
        self._touched_families: set[str] = set()
        self._dropped: dict[str, ClusterState] = {}
        self._ticked = False

    def tick(self) -> None:
        """Count a prompt."""
        self.clock += 1
        self._ticked = True

    def state_of(self, cluster_id: str) -> ClusterState:
        """Return a cluster's state, new if it has none, to be written to."""
        state = self.clusters.get(cluster_id)
        if state is None:
            state = self.clusters[cluster_id] = ClusterState(cluster_id, born_at=self.clock)
        self._touched[cluster_id] = state
        return state

    def touch(self, state: ClusterState) -> None:
        self._touched[state.cluster_id] = state

    def drop(self, state: ClusterState, heir: ClusterState | None) -> list[EvolutionEvent]:
        """Forget a cluster; its place in a family goes to its heir."""
        events: list[EvolutionEvent] = []
        del self.clusters[state.cluster_id]
        self.resemblances.remove(state.cluster_id)
        self._touched.pop(state.cluster_id, None)
        self._dropped[state.cluster_id] = state
        family = self.families.get(state.family_id or "")
        if family is not None:
            family.clusters.remove(state.cluster_id)
            self._touched_families.add(family.family_id)
            if heir is not None and heir.family_id is not None and heir.family_id != family.family_id:
                events += self._merge_families(self.families[heir.family_id], family, heir)
            if not family.clusters:
                self.families.pop(family.family_id, None)
        return events

    def place_in_family(self, state: ClusterState, parent: ClusterState | None) -> Family:
        """Find a newly announced cluster its family: its parent's, that of the cluster most like it, or its own."""
        template = state.versions[-1].template
        family_id = parent.family_id if parent is not None else None
        if family_id is None:
            near = self.resemblances.nearest(template, without=state.cluster_id)
            if near and near[0][1] >= SIBLING_MIN:
                family_id = self.clusters[near[0][0]].family_id
        if family_id is None:
            family_id = ids.family_id(self.name, state.cluster_id)
            self.families[family_id] = Family(family_id, name_of(template), description_of(template))
        family = self.families[family_id]
        family.clusters.append(state.cluster_id)
        state.family_id = family_id
        self._touched_families.add(family_id)
        return family

    def family_of(self, state: ClusterState) -> Family | None:
        return self.families.get(state.family_id or "")

    def replace_in_family(self, state: ClusterState) -> list[EvolutionEvent]:
        """Look at a cluster's family again after a new version; a bridge between two families makes them one."""
        own = self.family_of(state)
        near = self.resemblances.nearest(state.versions[-1].template, without=state.cluster_id)
        if own is None or not near or near[0][1] < SIBLING_MIN:
            return []
        other = self.family_of(self.clusters[near[0][0]])
        if other is None or other is own:
            return []
        # The elder family takes in the younger one; which is elder follows from who founded it first.
        elder, younger = sorted((own, other), key=lambda f: (self._founded_at(f), f.family_id))
        return self._merge_families(elder, younger, state)

    def _founded_at(self, family: Family) -> int:
        return min((self.clusters[cluster].born_at for cluster in family.clusters), default=self.clock)

    def _merge_families(self, elder: Family, younger: Family, bridge: ClusterState) -> list[EvolutionEvent]:
        for cluster_id in younger.clusters:
            member = self.clusters[cluster_id]
            member.family_id = elder.family_id
            self.touch(member)
        elder.clusters += younger.clusters
        younger.clusters = []
        del self.families[younger.family_id]
        self._touched_families |= {elder.family_id, younger.family_id}
        return [
            announce(
                self.voice,
                bridge,
                EvolutionType.FAMILY_MERGED,
                f"templates of '{younger.name}' and '{elder.name}' came to resemble each other",
                detected_by="resemblance",
                details={"family_id": elder.family_id, "merged_family_id": younger.family_id},
                subject=elder.family_id,
                others=(younger.family_id,),
            )
        ]

    def written(self) -> list[tuple[str, str, bytes | None]]:
        """Return the rows written since the last call as (table, key, row); None deletes."""
        written: list[tuple[str, str, bytes | None]] = []
        for cluster_id in sorted(self._dropped):
            key = f"{self.name}/{cluster_id}"
            written.append((rows.TEMPLATES, key, None))
            written += [(rows.TEMPLATES, f"{key}#{place}", None) for place in sorted(self._dropped[cluster_id].stored)]
        for cluster_id in sorted(self._touched):
            state = self._touched[cluster_id]
            key = f"{self.name}/{cluster_id}"
            written.append((rows.TEMPLATES, key, rows.head_of(state)))
            for place in sorted(state.changed):
                if place in state.pool:
                    written.append((rows.TEMPLATES, f"{key}#{place}", rows.sample_to(state.pool[place])))
                    state.stored.add(place)
                elif place in state.stored:
                    written.append((rows.TEMPLATES, f"{key}#{place}", None))
                    state.stored.discard(place)
            state.changed.clear()
        for family_id in sorted(self._touched_families):
            family = self.families.get(family_id)
            written.append((rows.FAMILIES, f"{self.name}/{family_id}", rows.family_to(family) if family else None))
        if self._ticked:
            written.append((rows.FAMILIES, f"{self.name}/", rows.pack({"clock": self.clock})))
        self._touched, self._touched_families, self._dropped, self._ticked = {}, set(), {}, False
        return written
