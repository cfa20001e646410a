"""Whether what some prompts share beside a template's constants is the value of a slot, or wording of its own.

A value stands in a gap that the text sets off: after a label, in quotation marks, on lines of its own. There it is the
same from prompt to prompt, or it is light against the constants around it; wording brings constants that weigh, beside
text that still varies. What follows such text and ends the prompt is a last sentence, unless it weighs as a document.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.layout import Gap, gaps
from streams.prompts.clustering.policy import BIT, Policy
from streams.prompts.clustering.shingles import Shingles

FILLS_MAX = 3  # gaps whose values may go together: a document with its title and its date
WORD_FILL_MAX = 5  # shingles that a word or two change


def are_values(
    policy: Policy, holders: Sequence[Kept], own: Shingles, weight: int, shared: Shingles, around: int
) -> bool:
    """Tell whether the shingles that these prompts have beside the shared constants are values of slots.

    `weight` is what their own shingles weigh together, `around` what the shared ones do.
    """
    if around < policy.distinctive_bits * BIT:
        return False
    light = 100 * weight < policy.group_weight_percent * around
    few = policy.group_weight_percent * shared.size // 100
    laid = []
    for kept in holders:
        filled = gaps(kept.prompt.text, own, shared, kept.shingles)
        if not all(_may_be_value(gap, light=light, lighter=weight < around) for gap in filled):
            return False
        laid.append(filled)
    if light:
        return True
    large = [[gap for gap in filled if gap.own > max(few, WORD_FILL_MAX)] for filled in laid]
    doubtful = [gap for filled in large for gap in filled if not (gap.labelled and weight < around)]
    if not all(_comes_again(gap, laid) for gap in doubtful):
        return False
    return all(len(filled) <= (FILLS_MAX if all(gap.labelled for gap in filled) else 1) for filled in large)


def _comes_again(gap: Gap, laid: list[list[Gap]]) -> bool:
    """Tell whether what a gap holds stands in another one too. Few are as long, so few texts are read."""
    alike = [other for filled in laid for other in filled if other.end - other.start == gap.end - gap.start]
    if len(alike) < 2:
        return False
    content = gap.content
    return sum(other.content == content for other in alike) > 1


def _may_be_value(gap: Gap, *, light: bool, lighter: bool) -> bool:
    """Tell whether the text around a gap lets it be a value, whatever it holds."""
    if gap.own <= WORD_FILL_MAX:
        return light or gap.inner
    return gap.delimited and not (gap.closes and lighter)
