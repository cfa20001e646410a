"""A cluster looks only at so many prompts that it may claim: who comes first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.prompts.clustering.claiming import CLAIMS_MAX, claim
from streams.prompts.clustering.cluster import Cluster, Kept
from streams.prompts.clustering.journal import Journal
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.state import State
from tests.clustering import REPLY, TENANT, a_prompt, filled
from tests.wire import MODERATION

DIMENSION = 2


def waiting(state: State, texts: Sequence[str]) -> list[Kept]:
    """Let these prompts wait for a cluster, numbered after those that the tenant sent before."""
    kept = []
    for text in texts:
        state.now += 1
        kept.append(Kept(state.now, a_prompt(state.now, text), MODERATION, np.zeros(DIMENSION, dtype=np.int8)))
        state.wait(kept[-1])
    return kept


def founded(moves: Moves, texts: Sequence[str]) -> Cluster:
    return moves.found(waiting(moves.state, texts), None, "they are filled from one template")


def test_members_of_a_rival_do_not_come_before_prompts_that_hold_all_constants() -> None:
    state = State(Policy(), "test", DIMENSION)
    moves = Moves(TENANT, state, Journal(state.policy))
    waiting(state, filled(REPLY, CLAIMS_MAX))
    rival = founded(moves, filled(f"{REPLY} Mention the fair.", 8))
    cluster = founded(moves, filled(REPLY, 4, seed=2))
    assert (
        state.pool.votes(cluster.signature.array).keys() > rival.kept.keys()
    )  # they have votes already, being a rival's

    claim(moves, cluster)

    assert state.waiting == []
    assert cluster.size == CLAIMS_MAX + 4
    assert rival.size == 8
