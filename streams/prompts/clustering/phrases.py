"""Whether what prompts have in common is only a turn of phrase.

Many prompts that have nothing to do with each other begin "I want you to act as" or hold "based on the given". Such
words are constants, but of the language: what follows is no value. Two signs tell. Words at neither end of a prompt
say little unless there are many of them. And where they open a prompt, a value that sets in within a sentence should
end with it, or at a mark; text that runs on over the next sentences was written, not filled in.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.prompts.clustering.cluster import Kept
from streams.prompts.clustering.compiled.layout import running_on
from streams.prompts.clustering.shingles import Shingles
from streams.prompts.clustering.sketch import located

PHRASE_MAX = 10  # more constants than this are no turn of phrase, whatever follows them
DISTINCTIVE_MIN = 6  # as many say something by themselves: eight words in a row
LOOKED_AT = 6  # prompts whose text is read
RUNS_ON_PERCENT = 50  # of a prompt that runs on


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
    places = located(kept.prompt.text)
    running = running_on(places.shingles, places.kinds, constants.array, distinctive)
    return 100 * running >= RUNS_ON_PERCENT * places.shingles.size
