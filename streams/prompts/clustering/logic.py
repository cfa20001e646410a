"""Decide which cluster a prompt belongs to, found clusters, and repair them.

Intuition: fill one template twice and lay the two texts over each other. What both hold is the template, what one holds
alone is a slot's value. So a prompt is a set of shingles, three neighbouring words each (`sketch`), and a cluster is
known by those that almost all of its members hold: its constants. Long values do not hide a template, because they add
shingles of their own but take none of the template's away; a cosine of whole prompts would see little but the value.

The life of a cluster:
    wait     a prompt that no cluster explains stands alone, and its answer is "none" (`state`)
    found    three or more that share enough turn out to be one template and move into a cluster (`founding`), unless
             what they share is a turn of phrase that anybody may use (`phrases`)
    match    a newcomer joins the cluster whose constants it holds: gate one, structure. Near-ties, and prompts too
             short to have structure, go to the nearer centroid: gate two, meaning (`match`)
    learn    the first members teach the constants; then these hold, and the centroid alone follows (`moves`)
    repair   a cluster that has grown lets strangers go, splits where it holds two templates, merges with a fragment of
             the same one, and claims what it explains better (`repairs`). Both splits and merges ask one question:
             is what some members share beside the constants a value or wording (`values`, `splitting`, `merging`)?
    retire   a cluster that nobody feeds shrinks to a stub, and comes back under its id when it is fed again

Every answer is a record: the first one at once, then a MOVED record for each prompt that found a better place
(`journal`). How much a shared shingle proves is counted in bits (`evidence`): what many clusters hold proves little.

Sets of shingles are ascending arrays (`shingles`), and an index finds what holds one (`index`); their inner loops are
machine code (`compiled`).

Everything here is a function of the tenant's prompts in their order: no clock, no chance, sums in integers. Age is
counted in prompts, repairs go by one slice a prompt. All state lies in rows (`rows`), and an engine built from them
continues exactly as the one that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import ConflictingDuplicate, StateIncompatible
from schemas.prompts import Assignment, ClusteredStep, Decision, Prompt
from streams.prompts.clustering import rows as table_rows
from streams.prompts.clustering.claiming import claim
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.founding import found
from streams.prompts.clustering.journal import Journal
from streams.prompts.clustering.match import Candidate, Match, match
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import ALGORITHM, Policy
from streams.prompts.clustering.recent import RecentIds
from streams.prompts.clustering.repairs import repair
from streams.prompts.clustering.rows import Row
from streams.prompts.clustering.state import WAITING_CHARS_MAX, State

EMPTY_COSTS_PROMPTS = 20  # what an engine without prompts takes, in kept prompts


class Clustering:
    """The engine of one tenant."""

    def __init__(
        self,
        tenant: str,
        policy: Policy,
        embedder: str,
        dimension: int,
        rows: Iterable[tuple[str, str, bytes]] = (),
    ) -> None:
        self.tenant = tenant
        policy = policy.of(tenant, embedder)
        self._policy = policy
        self._state = State(policy, embedder, dimension)
        self._recent = RecentIds(policy.recent_ids_max)
        for segment, row in table_rows.restore(self._state, rows):
            self._recent.restore(segment, row)
        self.check_embedder(embedder)
        self._journal = Journal(policy)
        self._moves = Moves(tenant, self._state, self._journal)

    def add(self, arrival: Kept) -> list[ClusteredStep]:
        """Place one prompt (see `arrivals`) and do what it gives rise to.

        Raises:
            ConflictingDuplicate: the id was used before for another text. Nothing has changed.
            StateIncompatible: its vector has another dimension than the state's. Nothing has changed.
        """
        state, prompt = self._state, arrival.prompt
        if arrival.vector.size != state.dimension:
            raise StateIncompatible(
                f"clustering prompt {prompt.prompt_id}: its vector has {arrival.vector.size} dimensions, those of "
                f"embedder {state.embedder} have {state.dimension}",
                hint="vectors of two embedders never meet: promptloom rebuild",
            )
        known = self._recent.meet(prompt.prompt_id, prompt.text)
        if known is not None:
            return [self._duplicate(arrival, same_text=known)]
        state.now += 1
        arrival.number = state.now
        self._place(arrival)
        self._age_out()
        if state.now % self._policy.repair_every == 0:
            self._repair(prompt)
        return self._journal.take()

    def dirty(self) -> list[Row]:
        """Return the (table, key, value) of every row changed since the last call; value None = deleted."""
        changed = table_rows.changes(self._state, self.tenant)
        changed += [(table_rows.RECENT_IDS, f"{self.tenant}/{key}", row) for key, row in self._recent.rows()]
        return changed

    @property
    def cost(self) -> int:
        """Return the memory the engine takes, in prompts kept in full."""
        return EMPTY_COSTS_PROMPTS + len(self._state.kept)

    def check_embedder(self, embedder: str) -> None:
        """Raise StateIncompatible unless the centroids live in this embedder's space."""
        if embedder != self._state.embedder:
            raise StateIncompatible(
                f"clustering for tenant {self.tenant}: its state is of embedder {self._state.embedder}, "
                f"the prompt's vector of {embedder}",
                hint="vectors of two embedders never meet: promptloom rebuild",
            )

    def _place(self, kept: Kept) -> None:
        matched = match(self._state, kept)
        chosen = matched.chosen
        if chosen is not None:
            sure = self._sure(chosen, kept)
            self._join(kept, matched, chosen.cluster)
        else:
            sure = False
            self._journal.assigned(kept, None, matched)
            self._state.wait(kept)
        if sure or kept.number not in self._state.kept:
            return
        cluster = found(self._moves, kept, chosen)
        if cluster is not None:
            claim(self._moves, cluster)

    def _sure(self, chosen: Candidate, kept: Kept) -> bool:
        """Tell whether a match needs no comparison with the pool."""
        cluster = chosen.cluster
        if cluster.retired or cluster.size >= self._policy.tentative_below:
            return True
        share = 100 * cluster.signature.size >= self._policy.pair_percent * len(kept.sketch.order)
        return bool(cluster.anchors) and share

    def _join(self, kept: Kept, matched: Match, cluster: Cluster) -> None:
        self._journal.assigned(kept, cluster, matched)
        if cluster.retired:
            self._moves.revive(cluster, kept.prompt)
        self._moves.join(cluster, kept)

    def _age_out(self) -> None:
        """Let waiting prompts go that are too many or too old: they are noise, and their answer stands."""
        state, policy = self._state, self._policy
        while state.waiting and (
            len(state.waiting) > policy.waiting_max
            or state.waiting_chars > WAITING_CHARS_MAX
            or state.now - state.waiting[0] > policy.waiting_age_max
        ):
            oldest = state.kept[state.waiting[0]]
            state.stop_waiting(oldest)
            state.forget(oldest)

    def _repair(self, newest: Prompt) -> None:
        state, policy = self._state, self._policy
        repair(self._moves)
        crowded = state.crowded
        if crowded or state.all_fed_since < state.now - policy.retire_after:
            unfed = state.longest_unfed()
            while unfed is not None and (crowded or state.now - unfed.fed > policy.retire_after):
                self._moves.retire(unfed)
                crowded = state.crowded
                unfed = state.longest_unfed() if crowded else None
        if len(state.retired) > policy.retired_max:
            self._moves.forget_retired(newest)

    def _duplicate(self, arrival: Kept, *, same_text: bool) -> ClusteredStep:
        prompt = arrival.prompt
        if not same_text:
            raise ConflictingDuplicate(
                f"clustering prompt {prompt.prompt_id}: the id was used before for another text",
                hint="give each prompt an id of its own, or none",
            )
        decision = Decision(gate="duplicate", algorithm=ALGORITHM, policy_version=self._policy.version)
        return ClusteredStep(
            assignment=Assignment(
                prompt=prompt,
                moderation=arrival.moderation,
                sequence=0,
                cluster_id=None,
                reasoning="the id came before with the same text",
                decision=decision,
                duplicate=True,
            )
        )
