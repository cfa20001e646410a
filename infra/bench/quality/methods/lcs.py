"""A miner by longest common subsequence, after Spell (Du and Li 2016).

A text joins the cluster whose template shares the longest subsequence of tokens with it, if that is at least a
share of both; the template becomes that subsequence, with a slot wherever something was left out.

Lengths are computed bit-parallel (Hyyrö 2004): one integer holds a row of the table, a bit a token. Only the
clusters that share most tokens are compared, as in Spell's own pre-filter.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from infra.bench.quality.methods.method import Method, Outcome
from infra.bench.quality.scoring import Labelled, Prediction

TOKEN = re.compile(r"\w+|[^\w\s]|\s+")
COMPARED_MAX = 8  # clusters whose subsequence with a text is computed


@dataclass(slots=True)
class Cluster:
    """Constant tokens in order; a gap before the n-th is a slot if n is in `gaps` (the end has the last number)."""

    tokens: list[str]
    gaps: set[int]


def mined(stream: Sequence[Labelled], *, share_min: float) -> Outcome:
    """Run the miner over a stream."""
    start = time.process_time()
    clusters: list[Cluster] = []
    holders: dict[str, set[int]] = defaultdict(set)
    homes: dict[str, int] = {}
    for row in stream:
        tokens = TOKEN.findall(row.text)
        home = _home(tokens, clusters, holders, share_min)
        if home is None:
            home = len(clusters)
            clusters.append(Cluster(tokens, set()))
        else:
            _narrow(clusters[home], tokens, home, holders)
        for token in set(clusters[home].tokens):
            holders[token].add(home)
        homes[row.id] = home
    spent = time.process_time() - start
    templates = [_shown(cluster) for cluster in clusters]
    predictions = {
        row.id: Prediction(str(home), templates[home], _slots(clusters[home], TOKEN.findall(row.text)))
        for row in stream
        for home in (homes[row.id],)
    }
    return Outcome(predictions, spent)


def common(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return a longest common subsequence as pairs of places."""
    masks: dict[Hashable, int] = defaultdict(int)
    for place, token in enumerate(first):
        masks[token] |= 1 << place
    full = (1 << len(first)) - 1
    row, rows = full, []
    for token in second:
        matched = row & masks.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
        rows.append(row)
    # A zero bit at a place says that the subsequence grows by the token there; walk back along the growths.
    pairs = []
    here, there = len(first) - 1, len(second) - 1
    while here >= 0 and there >= 0:
        if rows[there] >> here & 1:
            here -= 1
        elif there and not rows[there - 1] >> here & 1:
            there -= 1
        else:
            pairs.append((here, there))
            here, there = here - 1, there - 1
    return pairs[::-1]


def _home(
    tokens: Sequence[str], clusters: Sequence[Cluster], holders: dict[str, set[int]], share_min: float
) -> int | None:
    votes = Counter(home for token in set(tokens) for home in holders.get(token, ()))
    best: tuple[int, int] | None = None
    for home, shared in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:COMPARED_MAX]:
        template = clusters[home].tokens
        if best is not None and shared <= best[0] * share_min:
            break
        length = len(common(template, tokens))
        enough = length >= share_min * len(tokens) and length >= share_min * len(template)
        if enough and (best is None or length > best[0]):
            best = (length, home)
    return best[1] if best else None


def _narrow(cluster: Cluster, tokens: Sequence[str], home: int, holders: dict[str, set[int]]) -> None:
    """Reduce a template to what it shares with one more text."""
    pairs = common(cluster.tokens, tokens)
    for token in set(cluster.tokens):
        holders[token].discard(home)
    gaps = set()
    before = (-1, -1)
    for number, pair in enumerate([*pairs, (len(cluster.tokens), len(tokens))]):
        had_gap = any(gap in cluster.gaps for gap in range(before[0] + 1, pair[0] + 1))
        if had_gap or pair[0] - before[0] > 1 or pair[1] - before[1] > 1:
            gaps.add(number)
        before = pair
    cluster.tokens, cluster.gaps = [cluster.tokens[here] for here, _ in pairs], gaps


def _shown(cluster: Cluster) -> str:
    parts = [
        (f"{{{{s{place}}}}}" if place in cluster.gaps else "") + token
        for place, token in enumerate([*cluster.tokens, ""])
    ]
    return "".join(parts)


def _slots(cluster: Cluster, tokens: Sequence[str]) -> dict[str, str]:
    """Return what stands in the gaps of a template in one of its texts."""
    pairs = [*common(cluster.tokens, tokens), (len(cluster.tokens), len(tokens))]
    before = -1
    slots = {}
    for place, there in pairs:
        if place in cluster.gaps:
            slots[f"s{place}"] = "".join(tokens[before + 1 : there])
        before = there
    return slots


LCS = Method(
    "LCS",
    "longest common subsequence, after Spell",
    {f"share >= {share}": partial(mined, share_min=share) for share in (0.5, 0.65, 0.8)},
    ("infra/bench/quality/methods/lcs.py",),
    default="share >= 0.5",
)
