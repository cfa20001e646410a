"""Decide whether a prompt may pass, and what a tenant's rejections add up to.

Rules
  * A prompt is rejected when its score in any category reaches the threshold of its tenant for it.
  * The threshold that counts is the most specific one: tenant and category, then the tenant's `all`,
    then the category's, then the general one.
  * Scores are rounded before they are compared, so that a record explains itself: the score it shows
    is the score that decided.
  * A strike is one rejected prompt; a prompt that offends in two categories is one strike, counted in both.
    A prompt that comes again (a client that repeats itself, a dead letter put back twice) is the same strike,
    as long as its id is among the newest of its tenant's rejected ones.

Intuition: the classifier measures, the policy draws the line; a tenant may draw its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import xxhash

from schemas.errors import SettingsInvalid, StateIncompatible
from schemas.ids import text_hash
from schemas.prompts import Moderation, Prompt, PromptRejected

SCORE_DIGITS = 4
ALL_CATEGORIES = "all"
STRIKES_FORMAT = 2
RECENT_IDS_MAX = 256  # rejected prompts of a tenant whose repeats are told; 5 KB of a row that a unit writes once


@dataclass(frozen=True, slots=True)
class Policy:
    """Where the lines are: probabilities from which a category rejects."""

    version: str
    threshold: float
    categories: Mapping[str, float] = field(default_factory=dict)  # by category
    tenants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by tenant, then category or `all`

    def threshold_of(self, tenant: str, category: str) -> float:
        own = self.tenants.get(tenant, {})
        if category in own:
            return own[category]
        if ALL_CATEGORIES in own:
            return own[ALL_CATEGORIES]
        return self.categories.get(category, self.threshold)

    def require_categories(self, known: Collection[str]) -> None:
        """Refuse a policy that names a category the moderator does not score: it would silently do nothing."""
        named = set(self.categories).union(*self.tenants.values()) - {ALL_CATEGORIES}
        if unknown := sorted(named - set(known)):
            raise SettingsInvalid(
                f"reading the moderation policy: no such category: {', '.join(unknown)}",
                hint=f"the moderator scores {', '.join(known)}",
            )


@dataclass(frozen=True, slots=True)
class Strikes:
    """A row of the table `strikes`: what was rejected of one tenant."""

    prompts: int = 0
    categories: Mapping[str, int] = field(default_factory=dict)
    last_at_ms: int = 0
    last_prompt_id: str = ""
    recent_ids: tuple[str, ...] = ()  # hashes, oldest first


def verdict(scores: Mapping[str, float], policy: Policy, tenant: str, moderator: str) -> Moderation:
    """Judge one prompt by its scores."""
    rounded = {category: round(score, SCORE_DIGITS) for category, score in sorted(scores.items())}
    crossed = [category for category, score in rounded.items() if score >= policy.threshold_of(tenant, category)]
    return Moderation(
        allowed=not crossed,
        scores=rounded,
        reason=", ".join(
            f"{category} {rounded[category]:g} (rejected from {policy.threshold_of(tenant, category):g})"
            for category in crossed
        ),
        moderator=moderator,
        policy_version=policy.version,
        categories=tuple(crossed),
    )


def rejected(prompt: Prompt, moderation: Moderation) -> PromptRejected:
    """Return what is kept of a rejected prompt: everything but its text."""
    return PromptRejected(
        prompt_id=prompt.prompt_id,
        tenant=prompt.tenant,
        text_sha256=text_hash(prompt.text),
        text_chars=len(prompt.text),
        source=prompt.source,
        created_at_ms=prompt.created_at_ms,
        received_at_ms=prompt.received_at_ms,
        partition=prompt.partition,
        offset=prompt.offset,
        moderation=moderation,
    )


def strike(strikes: Strikes, rejection: PromptRejected) -> Strikes:
    """Return the row with one more rejected prompt; the row as it is where the prompt was counted before."""
    # The text counts too: an id that is used again for another text is another offence.
    identity = xxhash.xxh3_64_hexdigest(
        f"{rejection.text_sha256} {rejection.prompt_id}".encode("utf-8", "surrogatepass")
    )
    if identity in strikes.recent_ids:
        return strikes
    categories = dict(strikes.categories)
    for category in rejection.moderation.categories:
        categories[category] = categories.get(category, 0) + 1
    return Strikes(
        prompts=strikes.prompts + 1,
        categories=categories,
        last_at_ms=rejection.received_at_ms,
        last_prompt_id=rejection.prompt_id,
        recent_ids=(*strikes.recent_ids, identity)[-RECENT_IDS_MAX:],
    )


def encode_strikes(strikes: Strikes) -> bytes:
    return orjson.dumps(
        {
            "format": STRIKES_FORMAT,
            "prompts": strikes.prompts,
            "categories": dict(strikes.categories),
            "last_at_ms": strikes.last_at_ms,
            "last_prompt_id": strikes.last_prompt_id,
            "recent_ids": strikes.recent_ids,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def decode_strikes(row: bytes | None) -> Strikes:
    """Return a row of the table, or an empty one where there is none."""
    if row is None:
        return Strikes()
    fields: dict[str, Any] = orjson.loads(row)
    if (written := fields.pop("format", None)) != STRIKES_FORMAT:
        raise StateIncompatible(f"reading a row of strikes: its format is {written}, this program's {STRIKES_FORMAT}")
    return Strikes(**fields | {"recent_ids": tuple(fields["recent_ids"])})
