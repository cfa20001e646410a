"""Cut texts into tokens that lose nothing, and number them so that comparing two is comparing two numbers.

Pure. White space and line breaks are tokens; a script without spaces is cut by character. Joined, the tokens of a
text are the text. What a token is, is told in machine code (`compiled/tokens.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import xxhash

from streams.prompts.canonicalization.compiled import phrases
from streams.prompts.canonicalization.compiled import tokens as compiled

LEFT_OUT = re.compile("\ufdd0[0-9a-f]*\ufdd1")
LEFT_OUT_BEGIN = "\ufdd0"

TOKENS_MAX = 4_000  # of all texts together: bounds one alignment to some milliseconds
TEXTS_MIN = 6  # that are compared however long they are; of longer ones, the two ends
SHORT_WORD_CHARS = 3
STRANGER_SHARE_MAX = 0.2  # of texts that may be left out; with more, the texts simply have less in common
STRANGER_LANDMARKS_MIN = 0.7  # share of the phrases most texts hold that a text must hold
STRANGER_PHRASE = 4  # tokens
_CLASSES = compiled.classes()
_CODE = np.dtype("<u4")


class Tokens:
    """Texts one behind the other, and where their tokens begin."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.joined = "".join(texts)
        self.codes = np.frombuffer(self.joined.encode("utf-32-le", "surrogatepass"), dtype=_CODE)
        ends = np.array(list(accumulate(map(len, texts))), dtype=np.int64)
        # Where each token starts, and the last one ends; how many tokens there are up to the end of each text.
        self.starts, self.ends = compiled.cut(self.codes, ends, _CLASSES)

    def __len__(self) -> int:
        return self.starts.size - 1

    def ends_of(self, index: int, size: int) -> str:
        """Return a text without its middle, and at either side so many tokens, if it has more."""
        text = self.texts[index]
        end = int(self.ends[index])
        starts = self.starts[int(self.ends[index - 1]) if index else 0 : end].tolist()
        if len(starts) <= 2 * size:
            return text
        before, behind = starts[size] - starts[0], starts[-size:][0] - starts[0]
        return text[:before] + _left_out(text) + text[behind:]


def tokenize(text: str) -> list[str]:
    """Cut a text into tokens; joined, they are the text."""
    return [text[start:end] for start, end in pairwise(Tokens((text,)).starts.tolist())]


def without_middle(text: str, chars_max: int) -> str:
    """Return the two ends of a long text, and between them a mark that no other text holds: no phrase runs across."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return text[:half] + _left_out(text) + text[-half:]


def _left_out(text: str) -> str:
    return f"\ufdd0{xxhash.xxh3_64_hexdigest(text.encode('utf-8', 'surrogatepass'))}\ufdd1"


def affordable(tokens: Tokens) -> Tokens:
    """Take fewer texts where all together are too long, from the first to the last in even steps, then their ends."""
    texts, total = tokens.texts, len(tokens)
    if total <= TOKENS_MAX:
        return tokens
    count = min(len(texts), max(TEXTS_MIN, len(texts) * TOKENS_MAX // total))
    chosen = [index * (len(texts) - 1) // max(1, count - 1) for index in range(count)]
    lengths = np.diff(tokens.ends, prepend=0)
    if lengths[chosen].sum() <= 2 * TOKENS_MAX:
        return Tokens([texts[index] for index in chosen])
    return Tokens([tokens.ends_of(index, TOKENS_MAX // count // 2) for index in chosen])


class Numbered:
    """The tokens of texts as numbers, in the order in which they first appear."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        # The number of each token, and for each number what it is worth as evidence.
        self.words, self.kinds = compiled.numbered(tokens.codes, tokens.starts, _CLASSES, SHORT_WORD_CHARS)
        self.starts, self.ends = np.concatenate(((0,), tokens.ends[:-1])), tokens.ends

    def shown(self, start: int, end: int) -> str:
        """Return the text of the tokens between two places."""
        return self.tokens.joined[self.tokens.starts[start] : self.tokens.starts[end]]


def without_strangers(numbered: Numbered) -> list[int]:
    """Return which texts hold most of what most texts hold; the others are of another template, or version."""
    many = numbered.ends.size
    most = 1 - STRANGER_SHARE_MAX
    if many >= 5:
        kept = phrases.familiar(numbered.words, numbered.ends, STRANGER_PHRASE, most, STRANGER_LANDMARKS_MIN)
        if kept.size >= most * many:
            return kept.tolist()  # type: ignore[no-any-return]
    return list(range(many))
