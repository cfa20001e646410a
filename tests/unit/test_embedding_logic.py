"""Frames of embedded prompts: by tenant partition, in order, within limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.limits import FRAME_BYTES_MAX, FRAME_PROMPTS_MAX
from schemas.prompts import EmbeddedFrame, ModeratedPrompt
from streams.engine import frames
from streams.engine.partitioning import partition_of
from streams.prompts.embedding.logic import Vector, embedded_frames
from tests.wire import MODERATION, a_prompt

DIMENSION = 4


def embedded(number: int, tenant: str, text: str = "text") -> tuple[ModeratedPrompt, Vector]:
    prompt = a_prompt(number, text=text).model_copy(update={"tenant": tenant})
    return ModeratedPrompt(prompt=prompt, moderation=MODERATION), np.full(DIMENSION, number, dtype=np.float32)


def framed(items: list[tuple[ModeratedPrompt, Vector]], partitions: int = 8) -> list[tuple[int, EmbeddedFrame]]:
    return list(embedded_frames(items, embedder="tiny", dimension=DIMENSION, partitions=partitions))


def rows_of(frame: EmbeddedFrame) -> list[float]:
    vectors = np.frombuffer(frame.vectors, dtype="<f4").reshape(len(frame.prompts), frame.dimension)
    return [float(row[0]) for row in vectors]


@given(st.lists(st.sampled_from(["acme", "globex", "initech", "umbrella"]), max_size=50), st.integers(1, 9))
def test_every_prompt_arrives_once_on_its_tenants_partition_in_order(tenants: list[str], partitions: int) -> None:
    items = [embedded(number, tenant) for number, tenant in enumerate(tenants)]
    arrived = framed(items, partitions)
    for partition, frame in arrived:
        for moderated, first in zip(frame.prompts, rows_of(frame), strict=True):
            assert partition == partition_of(moderated.prompt.tenant, partitions)
            assert moderated.prompt.prompt_id == f"prompt-{int(first)}", "a vector belongs to another prompt"
    for tenant in set(tenants):
        offsets = [m.prompt.offset for _, frame in arrived for m in frame.prompts if m.prompt.tenant == tenant]
        assert offsets == [item[0].prompt.offset for item in items if item[0].prompt.tenant == tenant]


def test_a_frame_ends_at_its_limits() -> None:
    arrived = framed([embedded(number, "acme", "x" * 3_000) for number in range(600)])
    assert sum(len(frame.prompts) for _, frame in arrived) == 600
    for _, frame in arrived:
        assert len(frame.prompts) <= FRAME_PROMPTS_MAX
        assert len(frames.encode(frame)) <= FRAME_BYTES_MAX


def test_a_prompt_larger_than_a_frame_travels_alone() -> None:
    sizes = [
        len(frame.prompts)
        for _, frame in framed([embedded(1, "a"), embedded(2, "a", "x" * FRAME_BYTES_MAX), embedded(3, "a")])
    ]
    assert sizes == [1, 1, 1]


def test_nothing_makes_no_frame() -> None:
    assert framed([]) == []


def test_the_embedder_stands_in_every_frame() -> None:
    (partition, frame), *_ = framed([embedded(1, "acme")])
    assert (frame.embedder, frame.dimension) == ("tiny", DIMENSION)
    assert partition == pytest.approx(partition_of("acme", 8))
