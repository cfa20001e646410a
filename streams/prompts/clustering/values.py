"""Whether what some prompts share beside a template's constants is the value of a slot, or wording of its own.

A value stands in a gap that the text sets off: after a label, in quotation marks, on lines of its own. There it is the
same from prompt to prompt, or it is light against the constants around it; wording brings constants that weigh, beside
text that still varies. What follows such text and ends the prompt is a last sentence, unless it weighs as a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.layout import Gap, gaps
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import BIT
from streams.prompts.clustering.shingles import Shingles

FILLS_MAX = 3  # gaps whose values may go together: a document with its title and its date
WORD_FILL_MAX = 5  # shingles that a word or two change


def are_values(moves: Moves, holders: Sequence[Kept], own: Shingles, shared: Shingles) -> bool:
    """Tell whether the shingles that these prompts have beside the shared constants are values of slots."""
    evidence, policy = moves.state.evidence, moves.state.policy
    around = evidence.weigh(shared)
    if around < policy.distinctive_bits * BIT:
        return False
    weight = evidence.weigh(own)
    light = 100 * weight < policy.group_weight_percent * around
    few = policy.group_weight_percent * shared.size // 100
    laid = []
    for kept in holders:
        filled = gaps(kept.prompt.text, own, shared, kept.shingles)
        if not all(_may_be_value(gap, light=light, lighter=weight < around) for gap in filled):
            return False
        laid.append(filled)
    contents = Counter(gap.content for filled in laid for gap in filled)
    repeated = {content for content, count in contents.items() if count > 1}
    return all(_all_values(filled, repeated, few, light=light, lighter=weight < around) for filled in laid)


def _may_be_value(gap: Gap, *, light: bool, lighter: bool) -> bool:
    """Tell whether the text around a gap lets it be a value, whatever it holds."""
    if gap.own <= WORD_FILL_MAX:
        return light or (bool(gap.before) and gap.after is not None)
    return gap.delimited and not (gap.closes and lighter)


def _all_values(filled: list[Gap], repeated: set[str], few: int, *, light: bool, lighter: bool) -> bool:
    large = [gap for gap in filled if gap.own > max(few, WORD_FILL_MAX) and not light]
    if any(gap.content not in repeated and not (gap.labelled and lighter) for gap in large):
        return False
    return len(large) <= (FILLS_MAX if all(gap.labelled for gap in large) else 1)
