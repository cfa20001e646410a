"""Tell a template that changed from one that was not yet known well enough.

Pure. Three signs, each looked for in the newest members of a cluster:
  wording     Members that the template does not parse, or whose slot values suddenly share words, agree with each
              other on a template of their own (`proposal`). If it holds words the old one lacks, or joins what the
              old one kept apart, the caller changed the template. If it only lets something vary that was fixed,
              the template had been learnt too narrowly.
  succession  A new cluster resembles an elder one that fell silent when it came up (`is_overdue`): the new wording
              was too different to land in the same cluster, but it is the next version all the same.
  drift       The template stands, the values of a slot come from elsewhere (`drift.py`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from streams.prompts.canonicalization.alignment import tokenize
from streams.prompts.canonicalization.template import Template, learn

AGREEING_MIN = 8  # members that must agree before a new version is believed
COVERED_MIN = 0.8  # of them that the proposed template must parse
FAMILIAR_SHARE_MAX = 0.25  # of earlier texts in which "new" words may occur
GAINED_WORDS_MIN = 1
RARE_SHARE_MAX = 0.1  # of earlier texts in which a word may occur that is new to the newest ones
WORD = re.compile(r"[^\W_]{2,}")
OVERDUE_MISSING = 4.6  # expected members that did not come: a chance of e^-4.6 = 1 %
OVERDUE_ARRIVALS = 8  # newest arrivals the rate is taken from
SLOT = "\x00"


@dataclass(frozen=True, slots=True)
class Difference:
    """What one template has that another has not, in words."""

    gained: int
    kept: float  # share of the old words that stayed
    rejoined: bool  # constants now touch that a slot or other constants kept apart

    @property
    def is_change(self) -> bool:
        return self.gained >= GAINED_WORDS_MIN or self.rejoined


def compare(before: Template, after: Template) -> Difference:
    """Compare two templates word by word."""
    old, new = _words(before), _words(after)
    gained = lost = 0
    rejoined = False
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        lost += sum(word != SLOT for word in old[a:b])
        gained += sum(word != SLOT for word in new[c:d])
        if a < b and SLOT not in new[c:d] and not (_touches_slot(new, c, d) and SLOT not in old[a:b]):
            rejoined = True
    fixed = sum(word != SLOT for word in old)
    return Difference(gained, 1 - lost / max(1, fixed), rejoined)


def _touches_slot(words: list[str], start: int, end: int) -> bool:
    return SLOT in words[max(0, start - 1) : start] or SLOT in words[end : end + 1]


def _words(template: Template) -> list[str]:
    words: list[str] = []
    for number, constant in enumerate(template.constants):
        if number:
            words.append(SLOT)
        words += [token for token in tokenize(constant) if token[0].isalnum()]
    return words


def proposal(current: Template, earlier: Sequence[str], suspects: Sequence[str]) -> Template | None:
    """Return the template that suspicious members agree on, if it is a changed one."""
    if len(suspects) < AGREEING_MIN:
        return None
    proposed = _without_familiar(learn(suspects), earlier, current)
    if sum(proposed.parse(text) is not None for text in suspects) < COVERED_MIN * len(suspects):
        return None
    return proposed


def _without_familiar(proposed: Template, earlier: Sequence[str], current: Template) -> Template:
    """Give back to the slots what earlier members often held in theirs: it is no new constant."""
    known = "\n".join(current.constants)
    kept = [proposed.constants[0]]
    for constant in proposed.constants[1:-1]:
        core = constant.strip()
        if core not in known and earlier and _share_holding(core, earlier) > FAMILIAR_SHARE_MAX:
            continue
        kept.append(constant)
    return Template((*kept, proposed.constants[-1])) if proposed.slots else proposed


def _share_holding(phrase: str, texts: Sequence[str]) -> float:
    return sum(phrase in text for text in texts) / len(texts)


def new_words(current: Template, earlier: Sequence[str], newest: Sequence[str]) -> list[str]:
    """Return the words that all the newest members hold in their slots and hardly any earlier member holds at all."""
    shared: set[str] | None = None
    for text in newest:
        values = current.parse(text)
        words = {word for value in values or () for word in WORD.findall(value)}
        shared = words if shared is None else shared & words
        if not shared:
            return []
    few = RARE_SHARE_MAX * len(earlier)
    return sorted(word for word in shared or () if sum(word in text for text in earlier) <= few)


def was_alive(arrivals: Sequence[int], at: int) -> bool:
    """Tell whether a cluster still got members at a point of time."""
    before = [arrival for arrival in arrivals if arrival <= at]
    return len(before) < len(arrivals) or not is_overdue(before, at)


def is_overdue(arrivals: Sequence[int], now: int) -> bool:
    """Tell whether a cluster fell silent: so many members are missing that chance does not explain it."""
    if len(arrivals) < OVERDUE_ARRIVALS:
        return False
    span = arrivals[-1] - arrivals[0]
    return (now - arrivals[-1]) * (len(arrivals) - 1) >= OVERDUE_MISSING * max(1, span)
