"""Strategies for everything that travels in frames, and one example of each frame."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.prompts import (
    Assignment,
    CanonicalizedFrame,
    CanonicalizedPrompt,
    ClusterChange,
    ClusterChangeKind,
    ClusteredFrame,
    ClusteredStep,
    Decision,
    EmbeddedFrame,
    Model,
    ModeratedFrame,
    ModeratedPrompt,
    Moderation,
    Prompt,
    SlotStatistics,
    Usage,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)  # any Unicode, NUL included
OPTIONAL_TEXT = st.none() | TEXT
TIME = st.integers(0, 2**45)
OFFSET = st.integers(0, 2**62)
PARTITION = st.integers(0, 1023)
SHARE = st.floats(-1, 1)

USAGES = st.builds(
    Usage,
    model=OPTIONAL_TEXT,
    prompt_tokens=st.integers(0, 10**12),
    completion_tokens=st.integers(0, 10**12),
    cost_usd=st.floats(0, 1e9),
)
PROMPTS = st.builds(
    Prompt,
    prompt_id=TEXT,
    tenant=TEXT,
    text=TEXT,
    source=TEXT,
    created_at_ms=TIME,
    received_at_ms=TIME,
    partition=PARTITION,
    offset=OFFSET,
    metadata_json=TEXT,
    usage=st.none() | USAGES,
)
MODERATIONS = st.builds(
    Moderation,
    allowed=st.booleans(),
    scores=st.dictionaries(TEXT, st.floats(0, 1), max_size=3),
    reason=TEXT,
    moderator=TEXT,
    policy_version=TEXT,
    categories=st.just(()) | st.tuples(TEXT),
)
DECISIONS = st.builds(
    Decision,
    gate=TEXT,
    nearest_cluster_id=OPTIONAL_TEXT,
    nearest_structure=SHARE,
    second_meaning=SHARE,
    margin=SHARE,
    algorithm=TEXT,
    policy_version=TEXT,
)
ASSIGNMENTS = st.builds(
    Assignment,
    prompt=PROMPTS,
    moderation=MODERATIONS,
    sequence=st.integers(0, 2**31 - 1),
    cluster_id=OPTIONAL_TEXT,
    previous_cluster_id=OPTIONAL_TEXT,
    similarity=SHARE,
    confidence=SHARE,
    reasoning=TEXT,
    decision=DECISIONS,
    duplicate=st.booleans(),
)
CHANGES = st.builds(
    ClusterChange,
    kind=st.sampled_from(ClusterChangeKind),
    tenant=TEXT,
    cluster_id=TEXT,
    other_cluster_ids=st.tuples(TEXT, TEXT) | st.just(()),
    prompt_id=TEXT,
    partition=PARTITION,
    offset=OFFSET,
    occurred_at_ms=TIME,
    reason=TEXT,
)


def some(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


MODERATED = some(st.builds(ModeratedPrompt, prompt=PROMPTS, moderation=MODERATIONS))
FRAMES: dict[type[Model], st.SearchStrategy[Model]] = {
    ModeratedFrame: st.builds(ModeratedFrame, prompts=MODERATED),
    EmbeddedFrame: st.builds(
        EmbeddedFrame, embedder=TEXT, dimension=st.integers(0, 8192), vectors=st.binary(max_size=64), prompts=MODERATED
    ),
    ClusteredFrame: st.builds(
        ClusteredFrame,
        embedder=TEXT,
        steps=some(st.builds(ClusteredStep, assignment=ASSIGNMENTS) | st.builds(ClusteredStep, change=CHANGES)),
    ),
    CanonicalizedFrame: st.builds(
        CanonicalizedFrame,
        prompts=some(
            st.builds(
                CanonicalizedPrompt,
                assignment=ASSIGNMENTS,
                family_id=OPTIONAL_TEXT,
                template_id=OPTIONAL_TEXT,
                template_version=OPTIONAL_TEXT,
                slots=st.dictionaries(TEXT, TEXT, max_size=3),
                raw=st.booleans(),
            )
        ),
        changes=some(CHANGES),
        statistics=some(
            st.builds(SlotStatistics, tenant=TEXT, cluster_id=TEXT, template_id=TEXT, version=TEXT, slots_json=TEXT)
        ),
    ),
}


def a_prompt(number: int = 1, *, text: str = "Translate {{braces}} to Ελληνικά", usage: Usage | None = None) -> Prompt:
    """Return a prompt in which every field has a value of its own."""
    return Prompt(
        prompt_id=f"prompt-{number}",
        tenant="acme",
        text=text,
        source="replay",
        created_at_ms=1_700_000_000_000 + number,
        received_at_ms=1_700_000_000_500 + number,
        partition=3,
        offset=40 + number,
        metadata_json='{"team":"search"}',
        usage=usage,
    )


USAGE = Usage(model="gpt-4o", prompt_tokens=12, completion_tokens=345, cost_usd=0.0125)
MODERATION = Moderation(
    allowed=False,
    scores={"violence": 0.25, "hate": 0.875},
    reason="over a threshold",
    moderator="offline",
    policy_version="1",
    categories=("hate",),
)
ASSIGNMENT = Assignment(
    prompt=a_prompt(usage=USAGE),
    moderation=MODERATION,
    sequence=1,
    cluster_id="cluster-b",
    previous_cluster_id="cluster-a",
    similarity=0.75,
    confidence=0.5,
    reasoning="moved to the nearer one",
    decision=Decision(
        gate="structure",
        nearest_cluster_id="cluster-b",
        nearest_structure=0.875,
        nearest_meaning=0.9375,
        second_cluster_id="cluster-a",
        second_structure=0.5,
        second_meaning=0.25,
        margin=0.375,
        algorithm="constants/1",
        policy_version="1",
    ),
    duplicate=False,
)
CHANGE = ClusterChange(
    kind=ClusterChangeKind.MERGED,
    tenant="acme",
    cluster_id="cluster-b",
    other_cluster_ids=("cluster-c", "cluster-d"),
    prompt_id="prompt-9",
    partition=3,
    offset=99,
    occurred_at_ms=1_700_000_000_000,
    reason="the same constants",
)
PAIR = (
    ModeratedPrompt(prompt=a_prompt(1, usage=USAGE), moderation=MODERATION),
    ModeratedPrompt(prompt=a_prompt(2, text="NUL \0 and 🧵"), moderation=MODERATION),
)
EXAMPLES: tuple[Model, ...] = (
    ModeratedFrame(prompts=PAIR),
    EmbeddedFrame(embedder="tiny", dimension=2, vectors=bytes(range(16)), prompts=PAIR),
    ClusteredFrame(embedder="tiny", steps=(ClusteredStep(assignment=ASSIGNMENT), ClusteredStep(change=CHANGE))),
    CanonicalizedFrame(
        prompts=(
            CanonicalizedPrompt(
                assignment=ASSIGNMENT,
                family_id="family-a",
                template_id="template-a",
                template_version="1.2.0",
                slots={"text": "value", "empty": ""},
            ),
            CanonicalizedPrompt(assignment=ASSIGNMENT, raw=True),
        ),
        changes=(CHANGE,),
        statistics=(
            SlotStatistics(
                tenant="shop", cluster_id="cluster-a", template_id="template-a", version="1.2.0", slots_json="[]"
            ),
        ),
    ),
)
