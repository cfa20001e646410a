"""What one tenant's engine holds at most, whatever it is sent: numbers and bytes, never time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from connectors.embedders.wordllama import DIMENSION
from schemas.limits import TEXT_BYTES_MAX
from schemas.prompts import ClusterChangeKind, ClusteredStep
from streams.prompts.clustering import rows
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.sketch import SHINGLES_MAX, sketches
from streams.prompts.clustering.state import KEPT_CHARS_MAX
from tests.clustering import (
    CATALOGUE,
    REPLY,
    TEMPLATES,
    TENANT,
    Feed,
    an_arrival,
    busy_stream,
    changes,
    current,
    filled,
    interleaved,
)

WORDS = [f"w{number}" for number in range(40_000)]


class Blind:
    """Feeds an engine whose prompts all mean the same, so that thousands of them need no embedder."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.engine = Clustering(TENANT, policy or Policy(), "blind", DIMENSION)
        self.vector = np.full(DIMENSION, DIMENSION**-0.5, dtype=np.float32)
        self.steps: list[ClusteredStep] = []
        self.fed = 0

    def feed(self, texts: list[str]) -> None:
        for text in texts:
            self.steps += self.engine.add(an_arrival(self.fed, text, self.vector))
            self.fed += 1

    def rows_by_table(self) -> dict[str, list[bytes]]:
        held: dict[str, list[bytes]] = {}
        for table, _, row in self.engine.dirty():
            if row is not None:
                held.setdefault(table, []).append(row)
        return held


def one_offs(count: int) -> list[str]:
    chance = random.Random(8)  # noqa: S311  test data, not secrets
    return [" ".join(chance.choices(WORDS, k=12)) for _ in range(count)]


def test_ten_thousand_one_offs_found_no_cluster_and_no_more_wait_than_may() -> None:
    feed = Blind()
    feed.feed(one_offs(10_000))
    held = feed.rows_by_table()
    assert len(held[rows.WAITING]) == Policy().waiting_max
    assert set(held) == {rows.WAITING, rows.CENTROIDS, rows.RECENT_IDS}
    assert not changes(feed.steps)


def test_a_template_among_thousands_of_one_offs_is_found_all_the_same() -> None:
    feed = Blind()
    texts = interleaved(one_offs(3_000), filled(REPLY, 30))
    feed.feed(texts)
    replies = set(filled(REPLY, 30))
    homes = {home for text, home in zip(texts, current(feed.steps, feed.fed), strict=True) if text in replies}
    assert len(homes) == 1
    assert None not in homes


def test_a_family_with_nine_tenths_of_the_traffic_keeps_no_more_members_than_others() -> None:
    feed = Blind()
    feed.feed(interleaved(filled(REPLY, 1_800), filled(CATALOGUE, 200)))
    held = feed.rows_by_table()
    assert len(held[rows.SIGNATURES]) == 2
    assert len(held[rows.MEMBERS]) == 2 * Policy().members_kept_max


def test_a_slot_of_ever_new_values_adds_nothing_to_its_cluster() -> None:
    feed = Blind()
    feed.feed(
        [
            f"Look up order a{number} and tell the customer when parcel p{number * 7} will be there."
            for number in range(3_000)
        ]
    )
    held = feed.rows_by_table()
    assert len(held[rows.SIGNATURES]) == 1
    assert len(held[rows.SIGNATURES][0]) <= 1 + 8 * 14
    assert len(held[rows.MEMBERS]) == Policy().members_kept_max


@pytest.mark.parametrize("unit", ["word ", "\n", "漢", "x", "Describe it. ", "a b c d e f g "])
def test_the_longest_prompt_allowed_has_a_bounded_sketch(unit: str) -> None:
    text = "".join(f"{unit}{number}" for number in range(TEXT_BYTES_MAX // (len(unit.encode()) + 6)))
    assert len(text.encode()) > TEXT_BYTES_MAX // 3
    assert len(sketches([text])[0].order) <= SHINGLES_MAX


def test_samples_of_very_long_prompts_hold_fewer_of_them() -> None:
    feed = Blind()
    chance = random.Random(3)  # noqa: S311  test data, not secrets
    size = 4_000
    feed.feed(
        [f"Summarise the log and name the first fault.\n{' '.join(chance.choices(WORDS, k=size))}" for _ in range(20)]
    )
    held = feed.rows_by_table()
    assert len(held[rows.SIGNATURES]) == 1
    assert len(held[rows.MEMBERS]) <= KEPT_CHARS_MAX // size


def test_beyond_the_clusters_a_tenant_may_have_the_longest_unfed_retires() -> None:
    feed = Feed(Policy(clusters_max=3))
    for template in TEMPLATES:
        feed.feed(filled(template, 12))
    retired = [change.cluster_id for change in changes(feed.steps, ClusterChangeKind.RETIRED)]
    founded = [change.cluster_id for change in changes(feed.steps, ClusterChangeKind.FOUNDED)]
    assert retired == founded[:2]
    feed.feed(filled(TEMPLATES[0], 3, seed=2))
    assert set(feed.clusters()[-3:]) == {founded[0]}


def test_beyond_the_text_a_tenant_may_keep_the_longest_unfed_retires() -> None:
    feed = Feed(Policy(member_chars_max=4_000))
    for template in TEMPLATES:
        feed.feed(filled(template, 12))
    assert changes(feed.steps, ClusterChangeKind.RETIRED)
    members = {int(key.partition("/")[2]) for key in feed.keys(rows.MEMBERS)}
    texts = [text for template in TEMPLATES for text in filled(template, 12)]
    assert sum(len(texts[number - 1]) for number in members) <= 4_000


def test_prompts_made_of_other_templates_sentences_leave_their_clusters_alone() -> None:
    feed = Feed()
    feed.feed(busy_stream())
    before = feed.clusters()
    chance = random.Random(4)  # noqa: S311  test data, not secrets
    sentences = [part for template in TEMPLATES for part in filled(template, 1)[0].split(". ")]
    feed.feed([". ".join(chance.sample(sentences, k=5)) for _ in range(150)])
    assert not changes(feed.steps, ClusterChangeKind.MERGED)
    assert not changes(feed.steps, ClusterChangeKind.SPLIT)
    assert feed.clusters()[: len(before)] == before
    homes = []
    for template in TEMPLATES:
        feed.feed(filled(template, 6, seed=7))
        homes.append(set(feed.clusters()[-6:]))
    assert [len(home) for home in homes] == [1] * len(TEMPLATES)
    assert len(set.union(*homes)) == len(TEMPLATES)
