"""Tell a template that changed from one that was not yet known well enough.

Pure. Three signs, each looked for in the newest members of a cluster:
  wording     Members that the template does not parse, or whose slot values suddenly share words, agree with each
              other on a template of their own (`proposal`). If it holds words the old one lacks, or joins what the
              old one kept apart, the caller changed the template. If it only lets something vary that was fixed,
              the template had been learnt too narrowly.
  succession  A new cluster resembles an elder one that fell silent when it came up (`is_overdue`): the new wording
              was too different to land in the same cluster, but it is the next version all the same.
  drift       The template stands, the values of a slot come from elsewhere (`drift.py`).

What looks like new wording and is none: another number; a place that one version after the other worded anew
(`is_worded_again`), which holds a value, as the date of today; a word that values share which come in bursts.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise

import numpy as np

from streams.compiler import Ints
from streams.prompts.canonicalization.columns import Columns
from streams.prompts.canonicalization.compiled.words import WORD_CHARS_MIN, letters, share_news
from streams.prompts.canonicalization.learning import learn
from streams.prompts.canonicalization.slots import Sketch
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tokens import tokenize

AGREEING_MIN = 8  # members that must agree before a new version is believed
COVERED_MIN = 0.8  # of them that the proposed template must parse
FAMILIAR_SHARE_MAX = 0.25  # of earlier texts in which "new" words may occur
WORD_ODDS_MIN = 10**5  # against a word's being new by chance: each of some hundred words is a try
WORD = re.compile(rf"[^\W_]{{{WORD_CHARS_MIN},}}")
LETTERS = letters()  # what a `WORD` is made of
MARKS_AS_BLANKS = bytes(byte if chr(byte).isalnum() else ord(" ") for byte in range(256))  # of an ASCII text
OVERDUE_MISSING = 4.6  # expected members that did not come: a chance of e^-4.6 = 1 %
OVERDUE_ARRIVALS = 8  # newest arrivals the rate is taken from
RAMP_MEMBERS_MAX = 4  # arrivals of an elder cluster while the next version is rolled out
PHRASE_WORDS_MIN = 2  # one word may be what all values of a topic have in common
LABEL = re.compile(r"\n\W*\w+|\w\s*[:：]")
REPLACED_SHARE_MAX = 0.35  # of the longer template's words that two unrelated templates have in common
RUN_ODDS_MIN = 10**6  # against a run of stragglers: one is looked at with each member of an earlier version
AGAIN_MIN = 3  # changes of one place in a row, from which it is a value: a date that each prompt of a day holds
REWORKED_SHARE_MIN = 0.5  # of the words of a place that stay when somebody works on its wording
SLOT = "\x00"  # stands for a slot among the words of a template


@dataclass(frozen=True, slots=True)
class Difference:
    """What one template has that another has not, in words."""

    gained: int
    numbers: int  # of the words gained
    lost: int
    kept: float  # share of the old words that stayed
    words: int  # of the new template
    rejoined: bool  # constants now touch that a slot or other constants kept apart

    @property
    def wording(self) -> int:
        """Return the words gained that are no numbers: another year, or another limit, only shows that it varies."""
        return self.gained - self.numbers

    @property
    def is_change(self) -> bool:
        return self.wording > 0 or self.rejoined

    @property
    def is_section(self) -> bool:
        """Tell whether a stretch of wording came, or went, and all else stayed: no value of a slot is like that."""
        return (self.gained >= PHRASE_WORDS_MIN and not self.lost) or (self.rejoined and not self.gained)

    @property
    def is_replacement(self) -> bool:
        """Tell whether hardly a word stayed: no slot of the one template can be told from those of the other."""
        stayed = self.words - self.gained
        return stayed < REPLACED_SHARE_MAX * max(self.words, stayed + self.lost)


@lru_cache(maxsize=256)
def compare(before: Template, after: Template) -> Difference:
    """Compare two templates word by word."""
    old, new = _words(before), _words(after)
    gained = numbers = lost = 0
    rejoined = False
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        lost += sum(word != SLOT for word in old[a:b])
        gained += sum(word != SLOT for word in new[c:d])
        among_them = sum(word.isdecimal() for word in new[c:d])
        numbers += among_them
        if 0 < among_them == d - c:
            continue  # another number stands there now
        if a < b and SLOT not in new[c:d] and not (_touches_slot(new, c, d) and SLOT not in old[a:b]):
            rejoined = True
    fixed = sum(word != SLOT for word in old)
    return Difference(gained, numbers, lost, 1 - lost / max(1, fixed), sum(word != SLOT for word in new), rejoined)


def is_same(one: Template, other: Template) -> bool:
    """Tell whether two templates have the same words around their slots."""
    return not compare(one, other).gained and not compare(other, one).gained


def is_worded_again(versions: Sequence[Template], varied: Template | None, proposed: Template) -> bool:
    """Tell whether the last versions all changed one place, and this one would again: what stands there is a value.

    Args:
        varied: a wording of the place that the newest version lets vary for that reason.
    """
    if varied is not None and _change_one_place([varied, versions[-1], proposed]):
        return True
    return len(versions) >= AGAIN_MIN and _change_one_place([*versions[-AGAIN_MIN:], proposed])


def _change_one_place(chained: Sequence[Template]) -> bool:
    """Tell whether each of some templates differs from the one before at the same place."""
    places = [_changed_place(_words(before), _words(after)) for before, after in pairwise(chained)]
    if not all(places):
        return False
    return all(
        one and other and one[1].start < other[0].stop and other[0].start < one[1].stop
        for one, other in pairwise(places)
    )


def _changed_place(old: list[str], new: list[str]) -> tuple[range, range] | None:
    """Return the one stretch of words in which two templates differ, in each of them.

    None if most of it stayed, or if the words of one of them are all in the other, and no slot stands beside.
    """
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changed = [(a, b, c, d) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]
    if not changed:
        return None
    (a, b), (c, d) = (changed[0][0], changed[-1][1]), (changed[0][2], changed[-1][3])
    # What came or went beside a slot was, or is now, part of its values.
    before, behind = old[a - 1 : a] == [SLOT], old[b : b + 1] == [SLOT]
    place = range(a - before, b + behind), range(c - before, d + behind)
    stayed = b - a - sum(end - start for start, end, _, _ in changed)
    longer = max(map(len, place))
    return place if all(place) and stayed < REWORKED_SHARE_MIN * longer else None


def _touches_slot(words: list[str], start: int, end: int) -> bool:
    return SLOT in words[max(0, start - 1) : start] or SLOT in words[end : end + 1]


@lru_cache(maxsize=64)
def _words(template: Template) -> list[str]:
    words: list[str] = []
    for number, constant in enumerate(template.constants):
        if number:
            words.append(SLOT)
        words += [token for token in tokenize(constant) if token[0].isalnum()]
    return words


def proposal(current: Template, earlier: Sequence[str], suspects: Sequence[str]) -> Template | None:
    """Return the template that suspicious members agree on, or None where they do not agree."""
    if len(suspects) < AGREEING_MIN:
        return None
    proposed = _with_known_marks(_without_familiar(learn(suspects), earlier, current), current, suspects)
    if sum(proposed.parse(text) is not None for text in suspects) < COVERED_MIN * len(suspects):
        return None
    return proposed


def _without_familiar(proposed: Template, earlier: Sequence[str], current: Template) -> Template:
    """Give back to the slots what earlier members often held in theirs: it is no new constant."""
    if not proposed.slots:
        return proposed
    known = "\n".join(current.constants)
    rows = [values for text in earlier if (values := current.parse(text)) is not None]
    kept = [proposed.constants[0]]
    for constant in proposed.constants[1:-1]:
        core = constant.strip()
        held = sum(any(core in value for value in values) for values in rows)
        if core in known or held <= FAMILIAR_SHARE_MAX * len(rows):
            kept.append(constant)
    return Template((*kept, proposed.constants[-1]))


def _with_known_marks(proposed: Template, current: Template, suspects: Sequence[str]) -> Template:
    """Where a constant has the words of a known one and only more marks, take the known one: marks agree by chance."""
    known = {_core(constant): constant for constant in current.constants if _core(constant)}
    found = [(constant, known.get(_core(constant), constant)) for constant in proposed.constants]
    changed = Template(tuple(former if former in constant else constant for constant, former in found))
    readable = all(changed.parse(text) is not None for text in suspects if proposed.parse(text) is not None)
    return changed if readable else proposed


def _core(constant: str) -> str:
    return " ".join(WORD.findall(constant))


def sharing_new_words(
    columns: Columns, newest: Sequence[str], earlier: int, sketches: Sequence[Sketch]
) -> Iterator[list[str]]:
    """Yield those texts of newest members that share a word in a slot which is too rare in earlier ones for chance.

    First all of the last few, if they share one; then so many of the newest as do: while a new wording is rolled out,
    members of the old one still come in between. Where values come in bursts, those that share one are no witnesses.

    Args:
        newest: the texts whose values stand in the columns.
        earlier: how many members came before, those included that have no values.
    """
    split, values = columns.split, [column[columns.split :] for column in columns.values]
    shares = np.empty(len(values), dtype=np.bool_)
    familiar, familiar_lately = _familiar(len(newest), earlier)
    share_news(columns.written, columns.sizes, split, AGREEING_MIN, familiar, familiar_lately, LETTERS, shares)
    if not any(shares):
        return
    held = [
        list(map(set, map(_words_of, column))) if may_share and not sketch.comes_in_bursts(column) else []
        for column, may_share, sketch in zip(values, shares, sketches, strict=True)
    ]
    frequent = [
        {
            word: count
            for word, count in Counter(chain.from_iterable(words)).items()
            if count >= AGREEING_MIN and len(word) >= WORD_CHARS_MIN
        }
        for words in held
    ]
    for window, few in ((AGREEING_MIN, True), (len(newest), False)):
        best: tuple[int, str, int] | None = None
        for slot, counts in enumerate(frequent):
            if not counts:
                continue
            shared = counts.keys() & set.intersection(*held[slot][-window:]) if few else counts
            for word in shared:
                count = window if few else counts[word]
                rank = (-count, word, slot)
                if best is not None and best < rank:
                    continue
                known = sum(word in value for value in columns.values[slot][:split])
                if _is_new(count, window, known, earlier):
                    best = rank
        if best is None:
            continue
        _, word, slot = best
        recent = list(zip(newest, held[slot], strict=True))[-window:]
        yield [text for text, words in recent if word in words]


@lru_cache(maxsize=512)
def _familiar(newest: int, earlier: int) -> tuple[Ints, int]:
    """Return for each number of the newest members in how many earlier ones a word must be, to be nothing new there.

    And the same for a word that all of the last few hold. What fewer hold than must agree is never new.
    """

    def known_from(count: int, window: int) -> int:
        return next(known for known in range(earlier + 1) if not _is_new(count, window, known, earlier))

    agreeing = range(AGREEING_MIN, newest + 1)
    familiar = [0] * AGREEING_MIN + [known_from(count, newest) for count in agreeing]
    return np.array(familiar), known_from(AGREEING_MIN, AGREEING_MIN)


def _words_of(value: str) -> list[str]:
    """Return the words of a value; those shorter than a `WORD` may be among them."""
    if value.isascii():
        return value.encode().translate(MARKS_AS_BLANKS).decode().split()
    return WORD.findall(value)


@lru_cache(maxsize=4_096)
def _is_new(count: int, newest: int, known: int, earlier: int) -> bool:
    """Tell by Fisher's exact test whether what `count` of the newest hold came up since the earlier ones."""
    held = count + known
    deals = sum(math.comb(newest, i) * math.comb(earlier, held - i) for i in range(count, min(held, newest) + 1))
    return deals * WORD_ODDS_MIN <= math.comb(newest + earlier, held)


def adds_wording(before: Template, after: Template) -> bool:
    """Tell whether a template gained a phrase or a label, not just a word that values have in common."""
    known = "\n".join(before.constants)
    return any(
        len(WORD.findall(constant)) >= PHRASE_WORDS_MIN or LABEL.search(constant)
        for constant in after.constants
        if _core(constant) and constant.strip() not in known
    )


def went_back(earlier_before: int, members_before: int, run: int) -> bool:
    """Tell whether a run of members of an earlier version is no chance, given how many came in between before."""
    return int((earlier_before + 1) ** run) * RUN_ODDS_MIN <= int((members_before + 2) ** run)


def gave_way(arrivals: Sequence[int], at: int, members: int) -> bool:
    """Tell whether a cluster was alive when another came up, and got few members since.

    Args:
        arrivals: the newest arrivals of the elder cluster.
        at: when the younger one came up; `members` is what it has now.
    """
    before = [arrival for arrival in arrivals if arrival <= at]
    since = len(arrivals) - len(before)
    if since > max(RAMP_MEMBERS_MAX, members // 3):
        return False
    return since > 0 or not is_overdue(before, at, missing=3 * OVERDUE_MISSING)


def is_overdue(arrivals: Sequence[int], now: int, missing: float = OVERDUE_MISSING) -> bool:
    """Tell whether a cluster fell silent: so many members are missing that chance does not explain it."""
    if len(arrivals) < OVERDUE_ARRIVALS:
        return False
    span = arrivals[-1] - arrivals[0]
    return (now - arrivals[-1]) * (len(arrivals) - 1) >= missing * max(1, span)
