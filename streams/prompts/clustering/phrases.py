"""Whether what prompts have in common is only a turn of phrase.

Many prompts that have nothing to do with each other begin "I want you to act as" or hold "based on the given". Such
words are constants, but of the language: what follows is no value. Two signs tell. Words at neither end of a prompt
say little unless there are many of them. And where they open a prompt, a value that sets in within a sentence should
end with it, or at a mark; text that runs on over the next sentences was written, not filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.compiled.sets import holding
from streams.prompts.clustering.layout import SEAM, SENTENCE_ENDS
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.sketch import located

PHRASE_MAX = 10  # more constants than this are no turn of phrase, whatever follows them
DISTINCTIVE_MIN = 6  # as many say something by themselves: eight words in a row
LOOKED_AT = 6  # prompts whose text is read
RUNS_ON_PERCENT = 50  # of a prompt that runs on
VALUE_ENDS = frozenset(":：;；\"”'’)]}>|」』】）")


def is_phrase(members: Sequence[Kept], constants: Shingles) -> bool:
    """Tell whether these constants of these prompts are a turn of phrase."""
    ends = constants.ends
    if ends == 2 or constants.size > PHRASE_MAX:
        return False
    distinctive = constants.size >= DISTINCTIVE_MIN
    if ends == 0 and not distinctive:
        return True
    newest = members[-LOOKED_AT:]
    return 2 * sum(_runs_on(kept, constants, distinctive) for kept in newest) > len(newest)


def _runs_on(kept: Kept, constants: Shingles, distinctive: bool) -> bool:
    """Tell whether most of a prompt stands in stretches that set in within a sentence and run over its end."""
    tokens, shingles = located(kept.prompt.text)
    fixed = holding(shingles, constants.array).tolist()
    running = 0
    start: int | None = None
    for place, constant in enumerate([*fixed, 1]):
        if not constant and start is None:
            start = place
        elif constant and start is not None:
            stretch = tokens[start:place]
            if start and place - start >= SEAM and stretch[0][0].isalnum() and _crosses(stretch[1:], distinctive):
                running += place - start
            start = None
    return 100 * running >= RUNS_ON_PERCENT * len(tokens)


def _crosses(stretch: Sequence[str], distinctive: bool) -> bool:
    """Tell whether a sentence ends in a stretch and another follows, before a mark ends the first value.

    A line break ends a value too, if the constants say anything by themselves.
    """
    for token, following in pairwise(stretch):
        if token in VALUE_ENDS:
            return False
        if token in SENTENCE_ENDS:
            return not distinctive or following[0] != "\n"
        if token[0] == "\n":
            return not distinctive
    return False
