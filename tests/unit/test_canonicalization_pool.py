"""The kept members of a cluster: where they lie, and what is remembered of them beside what is stored."""

from __future__ import annotations

import pytest

from streams.prompts.canonicalization import rows
from streams.prompts.canonicalization.cluster import CURRENT, EARLIER, MEANING_UNKNOWN, STRANGE, ClusterState, Sample
from streams.prompts.canonicalization.logic import Canonicalization, Policy
from streams.prompts.canonicalization.template import Template
from tests.canonical import dice
from tests.unit.test_canonicalization_logic import BUSY


def restored(state: ClusterState) -> ClusterState:
    stored = [(rows.TEMPLATES, f"acme/{state.cluster_id}", rows.head_of(state))]
    stored += [
        (rows.TEMPLATES, f"acme/{state.cluster_id}#{place}", rows.sample_to(sample))
        for place, sample in state.pool.items()
    ]
    return rows.load("acme", stored)[1][state.cluster_id]


@pytest.mark.parametrize("seed", range(5))
def test_a_new_member_takes_the_first_free_place_also_after_a_restore(seed: int) -> None:
    chance = dice(seed)
    state = ClusterState("c1", born_at=0)
    for number in range(400):
        kept = list(state.pool.values())
        if kept and chance.random() < 0.3:
            for sample in chance.sample(kept, chance.randrange(1, 1 + len(kept) // 4) if len(kept) > 4 else 1):
                state.forget(sample.prompt_id)
        if chance.random() < 0.1:
            state = restored(state)
        free = next(place for place in range(len(state.pool) + 1) if place not in state.pool)
        state.changed.clear()
        reading = chance.choice((CURRENT, CURRENT, CURRENT, EARLIER, STRANGE))
        state.keep(Sample(f"p{number}", f"text {number}", MEANING_UNKNOWN, reading, number), recent=number % 3 > 0)
        assert free in state.changed
        assert not set(state.vacant) & set(state.pool)
        bases = [sample.priority for sample in state.bases()]
        assert bases == sorted(bases)


def test_what_is_remembered_of_a_text_is_what_its_template_reads_whatever_happened() -> None:
    engine = Canonicalization("acme", Policy())
    for each in BUSY:
        engine.apply(each)
        for state in engine.tenant.clusters.values():
            for template in {*state.templates(), *([state.template] if state.template else [])}:
                assert [sample.values(template) for sample in state.samples()] == [
                    template.parse(sample.text) for sample in state.samples()
                ]


def test_an_equal_template_reads_like_the_same_one() -> None:
    sample = Sample("p1", "Write to Ann.", MEANING_UNKNOWN, CURRENT, 0)
    one, other = (Template(("Write to ", "."), ("name",)) for _ in range(2))
    sample.remember(one, ["Ann"])
    assert sample.values(one) == sample.values(other) == ["Ann"]
    assert sample.values(Template(("Phone ", "."))) is None


@pytest.mark.parametrize("slots", [1, 40])
def test_the_statistics_of_few_slots_and_of_many_come_back_from_a_row(slots: int) -> None:
    """Those of many are compressed."""
    state = ClusterState("c1", born_at=0)
    state.begin(Template(tuple(f"part {n}:" for n in range(slots + 1)), tuple(f"s{n}" for n in range(slots))), "1.0.0")
    for number in range(100):
        state.count([f"value {number % 7} of slot {slot}" for slot in range(slots)])
    assert restored(state).sketches == state.sketches
    assert (b'"sketches"' in rows.head_of(state)) == (slots == 1)
