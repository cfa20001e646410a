"""Whether what some prompts share beside a template's constants is the value of a slot, or wording of its own.

A value stands in a gap that the text sets off: after a label, in quotation marks, on lines of its own. There it is the
same from prompt to prompt, or it is light against the constants around it; wording brings constants that weigh, beside
text that still varies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.layout import Gap, gaps
from streams.prompts.clustering.moves import Moves
from streams.prompts.clustering.policy import BIT

FILLS_MAX = 3  # gaps whose values may go together: a document with its title and its date
WORD_FILL_MAX = 5  # shingles that a word or two change


def are_values(moves: Moves, holders: Sequence[Kept], own: frozenset[int], shared: frozenset[int]) -> bool:
    """Tell whether the shingles that these prompts have beside the shared constants are values of slots."""
    evidence, policy = moves.state.evidence, moves.state.policy
    around = evidence.weigh(shared)
    if around < policy.distinctive_bits * BIT:
        return False
    weight = evidence.weigh(own)
    light = 100 * weight < policy.group_weight_percent * around
    few = policy.group_weight_percent * len(shared) // 100
    laid = [gaps(kept.prompt.text, own, shared, kept.shingles) for kept in holders]
    contents = Counter(gap.content for filled in laid for gap in filled)
    repeated = {content for content, count in contents.items() if count > 1}
    return all(_all_values(filled, repeated, few, light=light, lighter=weight < around) for filled in laid)


def _all_values(filled: list[Gap], repeated: set[str], few: int, *, light: bool, lighter: bool) -> bool:
    large = []
    for gap in filled:
        if gap.own <= WORD_FILL_MAX:
            if not light and (not gap.before or gap.after is None):
                return False
        elif not gap.delimited:
            return False
        elif gap.own > few and not light:
            if gap.content not in repeated and not (gap.labelled and lighter):
                return False
            large.append(gap)
    return len(large) <= (FILLS_MAX if all(gap.labelled for gap in large) else 1)
