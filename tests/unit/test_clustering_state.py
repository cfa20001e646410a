"""The rows are the state: an engine built from them continues exactly, whenever they were written and wherever cut."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.embedders.wordllama import DIMENSION
from schemas.errors import StateIncompatible
from schemas.prompts import ClusterChangeKind
from streams.prompts.clustering import rows
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from tests.clustering import (
    CATALOGUE,
    EMBEDDER,
    ONE_OFFS,
    REPLY,
    TENANT,
    Feed,
    an_arrival,
    busy_stream,
    changes,
    clustering,
    filled,
    reshaped_stream,
    turbulent_stream,
    vector_of,
)

# Bounds so small that a stream of 300 prompts runs into every one of them.
NARROW = Policy(
    waiting_max=12,
    waiting_age_max=60,
    retire_after=50,
    retired_max=6,
    members_kept_max=8,
    sample_every=3,
    stub_constants_max=24,
    recent_ids_max=64,
)
STREAMS = {
    "five templates": (busy_stream(), Policy()),
    "relatives": (turbulent_stream(), Policy()),
    "relatives within narrow bounds": (turbulent_stream(), NARROW),
    "fragments and siblings": (reshaped_stream(), Policy()),
}
WHOLE: dict[str, Feed] = {}


def fed_whole(name: str) -> Feed:
    if name not in WHOLE:
        texts, policy = STREAMS[name]
        WHOLE[name] = Feed(policy)
        WHOLE[name].feed(texts)
    return WHOLE[name]


def test_the_streams_of_these_tests_make_everything_happen() -> None:
    seen = {change.kind for name in STREAMS for change in changes(fed_whole(name).steps)}
    assert seen >= {
        ClusterChangeKind.FOUNDED,
        ClusterChangeKind.DISSOLVED,
        ClusterChangeKind.MERGED,
        ClusterChangeKind.SPLIT,
        ClusterChangeKind.RETIRED,
        ClusterChangeKind.REVIVED,
    }


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.integers(1, 200), max_size=5))
def test_an_engine_built_from_its_rows_at_any_point_continues_identically(name: str, cuts: set[int]) -> None:
    texts, policy = STREAMS[name]
    feed = Feed(policy)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(texts)], strict=True):
        feed.feed(texts[start:end])
        feed.rebuild()
    assert feed.steps == fed_whole(name).steps
    assert feed.stored == fed_whole(name).stored


@pytest.mark.parametrize("name", STREAMS)
def test_an_engine_built_anew_for_every_prompt_continues_identically(name: str) -> None:
    texts, policy = STREAMS[name]
    feed = Feed(policy)
    for text in texts[:120]:
        feed.feed([text])
        feed.rebuild()
    other = Feed(policy)
    other.feed(texts[:120])
    assert feed.steps == other.steps
    assert feed.stored == other.stored


@pytest.mark.parametrize("name", STREAMS)
def test_rows_written_after_every_prompt_end_as_rows_written_once(name: str) -> None:
    texts, policy = STREAMS[name]
    feed = Feed(policy)
    feed.feed(texts, write_each=True)
    assert feed.steps == fed_whole(name).steps
    assert feed.stored == fed_whole(name).stored


def test_the_order_in_which_rows_are_read_does_not_matter() -> None:
    texts, policy = STREAMS["relatives"]
    feed = Feed(policy)
    feed.feed(texts[:200])
    feed.engine = clustering(policy, sorted(feed.rows(), reverse=True))
    feed.feed(texts[200:])
    assert feed.steps == fed_whole("relatives").steps
    assert feed.stored == fed_whole("relatives").stored


def test_answers_and_rows_do_not_depend_on_the_hash_seed() -> None:
    code = "from tests.clustering import fingerprint; print(fingerprint())"
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_a_prompt_has_one_row_which_follows_it_from_waiting_to_its_cluster() -> None:
    feed = Feed()
    feed.feed(ONE_OFFS)
    feed.feed(filled(REPLY, 2))
    assert feed.keys(rows.WAITING) == {f"{TENANT}/{number}" for number in range(1, 13)}
    assert not feed.keys(rows.MEMBERS)
    feed.feed(filled(REPLY, 8, seed=2))
    assert feed.keys(rows.WAITING) == {f"{TENANT}/{number}" for number in range(1, 11)}
    assert feed.keys(rows.MEMBERS) == {f"{TENANT}/{number}" for number in range(11, 21)}


def test_every_cluster_has_its_two_rows_and_the_tenant_its_counters() -> None:
    feed = fed_whole("five templates")
    clusters = {f"{TENANT}/{cluster}" for cluster in feed.clusters() if cluster is not None}
    assert feed.keys(rows.CENTROIDS) == {*clusters, f"{TENANT}/"}
    assert feed.keys(rows.SIGNATURES) == clusters


def test_nothing_is_written_twice() -> None:
    feed = Feed()
    feed.feed(filled(REPLY, 10))
    assert {(table, key) for table, key, _ in feed.engine.dirty()} == {(rows.CENTROIDS, f"{TENANT}/")}


def test_rows_are_kept_small_by_the_bounds() -> None:
    feed = fed_whole("relatives within narrow bounds")
    assert len(feed.keys(rows.WAITING)) <= NARROW.waiting_max
    assert len(feed.keys(rows.RECENT_IDS)) <= 2
    clusters = len(feed.keys(rows.CENTROIDS)) - 1
    assert len(feed.keys(rows.MEMBERS)) <= clusters * NARROW.members_kept_max


def test_a_tenant_whose_name_holds_a_slash_comes_back() -> None:
    engine = Clustering("acme/eu", Policy(), EMBEDDER, DIMENSION)
    texts = filled(CATALOGUE, 12)
    for number, text in enumerate(texts[:9]):
        engine.add(an_arrival(number, text, tenant="acme/eu"))
    stored = [(table, key, row) for table, key, row in engine.dirty() if row is not None]
    again = Clustering("acme/eu", Policy(), EMBEDDER, DIMENSION, stored)
    for number, text in enumerate(texts[9:], 9):
        one, other = (an_arrival(number, text, tenant="acme/eu") for _ in range(2))
        assert engine.add(one) == again.add(other)


def test_a_vector_of_another_embedder_is_refused() -> None:
    feed = Feed()
    feed.feed(filled(REPLY, 4))
    feed.engine.check_embedder(EMBEDDER)
    with pytest.raises(StateIncompatible, match="another"):
        feed.engine.check_embedder("another")


def test_state_of_another_embedder_is_refused() -> None:
    feed = Feed()
    feed.feed(filled(REPLY, 4))
    with pytest.raises(StateIncompatible, match=EMBEDDER):
        clustering(rows=feed.rows(), name="another")


def test_centroids_of_another_dimension_are_refused() -> None:
    feed = Feed()
    feed.feed([*ONE_OFFS, *filled(REPLY, 8)])
    with pytest.raises(StateIncompatible, match="dimensions"):
        Clustering(TENANT, Policy(), EMBEDDER, DIMENSION * 2, feed.rows())


def test_a_row_of_an_unknown_format_is_refused() -> None:
    feed = Feed()
    feed.feed(filled(REPLY, 4))
    newer = [
        (table, key, bytes([rows.FORMAT + 1]) + row[1:]) if table == rows.CENTROIDS else (table, key, row)
        for table, key, row in feed.rows()
    ]
    with pytest.raises(StateIncompatible, match="format"):
        clustering(rows=newer)


def test_small_vectors_survive_the_rows_as_they_were_quantised() -> None:
    engine = Clustering(TENANT, Policy(), EMBEDDER, 2)
    texts = filled(REPLY, 9)
    angles = [np.array([np.cos(n / 10), np.sin(n / 10)], dtype=np.float32) for n in range(9)]
    for number, text in enumerate(texts[:8]):
        engine.add(an_arrival(number, text, angles[number]))
    again = Clustering(
        TENANT, Policy(), EMBEDDER, 2, [(table, key, row) for table, key, row in engine.dirty() if row is not None]
    )
    one, other = (an_arrival(8, texts[8], angles[8]) for _ in range(2))
    assert engine.add(one) == again.add(other)


def test_a_vector_of_another_dimension_is_not_read_beyond_its_end() -> None:
    feed = Feed()
    feed.feed(filled(REPLY, 12))
    (cluster,) = feed.engine._state.clusters.values()
    short = an_arrival(99, "any", vector_of("any")[:8])
    with pytest.raises(ValueError, match="dimensions"):
        cluster.cosine(short)
    with pytest.raises(StateIncompatible, match="8 dimensions"):
        feed.engine.add(short)
