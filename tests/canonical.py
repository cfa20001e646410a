"""Streams of clustered prompts for the tests of canonicalization: builders that state only what a test is about."""

from __future__ import annotations

import random
from collections.abc import Iterable

from schemas.events import EvolutionEvent
from schemas.prompts import Assignment, ClusterChange, ClusterChangeKind, ClusteredStep, Decision, Moderation, Prompt
from streams.prompts.canonicalization.logic import Canonicalization, Outcome, Policy

MODERATION = Moderation(allowed=True, scores={}, moderator="none", policy_version="1")
DECISION = Decision(gate="structure", algorithm="test", policy_version="1")

CITIES = (
    "Paris",
    "Oslo",
    "Lima",
    "Accra",
    "Quito",
    "Seoul",
    "Porto",
    "Kyiv",
    "Turin",
    "Basel",
    "Delhi",
    "Cairo",
    "Tunis",
    "Perth",
    "Dakar",
    "Minsk",
)
TOPICS = (
    "the price of bread",
    "sailing in winter",
    "a lost umbrella",
    "how bridges are built",
    "learning the cello",
    "old maps of Europe",
    "growing tomatoes",
    "night trains",
    "the history of tea",
    "repairing bicycles",
    "wild bees",
    "letters to a friend",
    "moving house",
    "a broken lamp",
    "first aid",
    "street markets",
)
TONES = ["friendly", "formal", "dry"]


def step(text: str, number: int, cluster: str | None = "c1", *, sequence: int = 0, left: str | None = None,
         prompt_id: str = "", tenant: str = "acme") -> ClusteredStep:  # fmt: skip
    prompt = Prompt(
        prompt_id=prompt_id or f"p{number}",
        tenant=tenant,
        text=text,
        created_at_ms=1_700_000_000_000 + number,
        received_at_ms=1_700_000_000_000 + number,
        partition=0,
        offset=number,
    )
    return ClusteredStep(
        assignment=Assignment(
            prompt=prompt,
            moderation=MODERATION,
            sequence=sequence,
            cluster_id=cluster,
            previous_cluster_id=left,
            similarity=0.9,
            decision=DECISION,
        )
    )


def change(kind: ClusterChangeKind, cluster: str = "c1", *others: str) -> ClusteredStep:
    return ClusteredStep(
        change=ClusterChange(
            kind=kind,
            tenant="acme",
            cluster_id=cluster,
            other_cluster_ids=others,
            prompt_id="p0",
            partition=0,
            offset=0,
            occurred_at_ms=1_700_000_000_000,
        )
    )


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  test data, not secrets


def letters(
    count: int, *, seed: int = 1, template: str = "Write a {tone} letter to {city} about {topic}, please.\nThank you."
) -> list[str]:
    """Return texts filled from one template."""
    chance = dice(seed)
    return [
        template.format(tone=chance.choice(TONES), city=chance.choice(CITIES), topic=chance.choice(TOPICS))
        for _ in range(count)
    ]


def run(steps: Iterable[ClusteredStep], engine: Canonicalization | None = None) -> list[Outcome]:
    engine = engine or Canonicalization("acme", Policy())
    return [engine.apply(each) for each in steps]


def members(texts: Iterable[str], *, start: int = 0, cluster: str = "c1") -> list[ClusteredStep]:
    return [step(text, start + number, cluster) for number, text in enumerate(texts)]


def events(outcomes: Iterable[Outcome]) -> list[EvolutionEvent]:
    return [event for outcome in outcomes for event in outcome.events]
