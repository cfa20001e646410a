"""Which templates belong together: families, their names and descriptions.

Pure. A template is known by the pairs of neighbouring words in its constants; a pair that few templates hold says
more than one that many hold (`weight`). Two templates resemble each other by the weight of what they share,
against the weight of the lighter one: a short variant of a long template is its sibling.

A family is founded by the first cluster that resembles no other, and keeps the id that follows from it. A cluster
that descends from another (its successor over time, or a part split off) is of its family whatever it looks like.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Set
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nsmallest
from itertools import chain, pairwise

import xxhash

from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tokens import tokenize

SIBLING_MIN = 0.5  # resemblance from which two templates are of one family
RELATED_MIN = 0.4  # resemblance from which one may be the next version of the other
PAIRS_MAX = 400  # of a template; a longer one is known by its first ones
CANDIDATES_MAX = 8
ASKED_MAX = 64  # answers kept: prompts that move to a cluster all ask the same
PRIOR_TEMPLATES = 8  # thought of beside those known: among two templates, what both hold is not yet common
NAME_WORDS = 6
DESCRIPTION_CHARS_MAX = 160
NONE: Set[str] = frozenset()
SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]?")


@dataclass(slots=True)
class Family:
    """A row of the table `families`."""

    family_id: str
    name: str
    description: str
    clusters: list[str] = field(default_factory=list)  # in order of joining


@lru_cache(maxsize=64)
def word_pairs(constants: tuple[str, ...]) -> frozenset[int]:
    """Return the hashed pairs of neighbouring words of a template's constants."""
    pairs: dict[int, None] = {}
    for constant in constants:
        words = [token.lower() for token in tokenize(constant) if token[0].isalnum()]
        for first, second in pairwise(words):
            pairs[xxhash.xxh3_64_intdigest(f"{first} {second}".encode("utf-8", "surrogatepass"))] = None
            if len(pairs) >= PAIRS_MAX:
                return frozenset(pairs)
    return frozenset(pairs)


class Resemblances:
    """An index of the announced templates of a tenant by their word pairs."""

    def __init__(self) -> None:
        self.pairs: dict[str, frozenset[int]] = {}
        self.holders: dict[int, set[str]] = {}
        self._held: dict[int, int] = {}  # how many hold a pair
        # Since the last change: what a pair of so many holders tells, and what was asked.
        self._worth: dict[int, int] = {}
        self._asked: dict[tuple[Template, str], list[tuple[str, float]]] = {}

    def put(self, cluster_id: str, template: Template) -> None:
        self.remove(cluster_id)
        pairs = word_pairs(template.constants)
        self.pairs[cluster_id] = pairs
        for pair in pairs:
            self.holders.setdefault(pair, set()).add(cluster_id)
            self._held[pair] = len(self.holders[pair])

    def remove(self, cluster_id: str) -> None:
        self._asked.clear()
        self._worth.clear()
        for pair in self.pairs.pop(cluster_id, ()):
            holders = self.holders[pair]
            holders.discard(cluster_id)
            self._held[pair] = len(holders)
            if not holders:
                del self.holders[pair], self._held[pair]

    def nearest(self, template: Template, *, without: str) -> list[tuple[str, float]]:
        """Return the most resembling clusters with their resemblance, best first."""
        asked = (template, without)
        if asked not in self._asked:
            if len(self._asked) >= ASKED_MAX:
                self._asked.clear()
            self._asked[asked] = self._nearest(template, without)
        return self._asked[asked]

    def _nearest(self, template: Template, without: str) -> list[tuple[str, float]]:
        pairs = word_pairs(template.constants)
        # What stands in many templates tells none of them.
        telling = (held for pair in pairs if len(held := self.holders.get(pair, NONE)) <= 4 * CANDIDATES_MAX)
        votes = Counter(chain.from_iterable(telling))
        ranked = nsmallest(CANDIDATES_MAX + 1, votes, key=lambda cluster: (-votes[cluster], cluster))
        own = self._weight(pairs)
        scored = [(cluster, self._resemblance(pairs, own, cluster)) for cluster in ranked if cluster != without]
        return sorted(scored, key=lambda item: (-item[1], item[0]))

    def between(self, template: Template, cluster_id: str) -> float:
        """Return the resemblance of a template to a cluster's."""
        pairs = word_pairs(template.constants)
        return self._resemblance(pairs, self._weight(pairs), cluster_id)

    def _resemblance(self, pairs: frozenset[int], weight: int, cluster_id: str) -> float:
        known = self.pairs[cluster_id]
        shared = self._weight(pairs & known)
        lighter = min(weight, self._weight(known))
        return shared / lighter if lighter else 0.0

    def _weight(self, pairs: Collection[int]) -> int:
        held, worth, weight = self._held, self._worth, 0
        for pair in pairs:
            holders = held.get(pair, 0)
            bits = worth.get(holders)
            if bits is None:
                bits = worth[holders] = _bits(PRIOR_TEMPLATES + len(self.pairs), holders)
            weight += bits
        return weight


def _bits(many: int, holders: int) -> int:
    """Return what a pair tells that so many of the templates hold.

    In whole thousandths of a bit: a sum of integers does not depend on the order of a set.
    """
    return round(1000 * math.log2(many / (1 + holders)))


def name_of(template: Template) -> str:
    """Name a template by its most telling fixed words, in their order."""
    words = [word for constant in template.constants for word in re.findall(r"[^\W\d_][\w'-]*", constant)]
    telling = [word for word in words if len(word) > 2 and word.lower() not in COMMON]
    chosen = list(dict.fromkeys(word.lower() for word in (telling or words)))[:NAME_WORDS]
    joined = " ".join(chosen)[:60]
    return joined.capitalize() or "Unnamed"


def description_of(template: Template) -> str:
    """Describe a template by its longest opening sentence of fixed words, with its slots shown."""
    shown = template.show()
    sentences = [sentence.strip() for sentence in SENTENCE.findall(shown[:2_000])]
    words = [(sum(word.isalpha() for word in sentence.split()), sentence) for sentence in sentences]
    best = next((sentence for count, sentence in words if count >= 4), max(words, default=(0, shown))[1])
    return best if len(best) <= DESCRIPTION_CHARS_MAX else best[: DESCRIPTION_CHARS_MAX - 1] + "…"


_COMMON = """
the and for with you your are act was this that from into will have has not can our his her its their them they
following given based about using use please provide should would could what which who how when where does did
"""
COMMON = frozenset(_COMMON.split())
