"""Drain3, the log parser most often used for this: tokens between spaces, one tree by token count (He et al. 2017)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from drain3.drain import Drain

from infra.bench.quality.methods.method import Method, Outcome
from infra.bench.quality.scoring import Labelled, Prediction

WILDCARD = "<*>"


def drained(stream: Sequence[Labelled], *, similarity: float, depth: int, words_max: int | None = None) -> Outcome:
    """Run Drain over a stream; with `words_max` it sees only the first words of each text."""
    start = time.process_time()
    drain = Drain(depth=depth, sim_th=similarity, param_str=WILDCARD)
    homes = {}
    for row in stream:
        cluster, _ = drain.add_log_message(" ".join(row.text.split()[:words_max]))
        homes[row.id] = cluster
    spent = time.process_time() - start
    predictions = {
        row.id: _prediction(str(homes[row.id].cluster_id), homes[row.id].log_template_tokens, row.text, words_max)
        for row in stream
    }
    return Outcome(predictions, spent)


def _prediction(cluster: str, tokens: Sequence[str], text: str, words_max: int | None) -> Prediction:
    """Return a cluster with its template; what lies behind the words that Drain saw is one more slot."""
    words = text.split()
    slots = {
        f"s{place}": word for place, (token, word) in enumerate(zip(tokens, words, strict=False)) if token == WILDCARD
    }
    shown = [f"{{{{s{place}}}}}" if token == WILDCARD else token for place, token in enumerate(tokens)]
    if words_max is not None and len(words) > words_max:
        slots["rest"] = " ".join(words[words_max:])
        shown.append("{{rest}}")
    return Prediction(cluster, " ".join(shown), slots)


DRAIN = Method(
    "Drain3",
    "log parser: a tree of token counts and first tokens",
    {
        "default (.4, depth 4)": partial(drained, similarity=0.4, depth=4),
        ".3, depth 4": partial(drained, similarity=0.3, depth=4),
        ".6, depth 4": partial(drained, similarity=0.6, depth=4),
        ".3, depth 5, first 24 words": partial(drained, similarity=0.3, depth=5, words_max=24),
        ".4, depth 4, first 12 words": partial(drained, similarity=0.4, depth=4, words_max=12),
    },
    ("infra/bench/quality/methods/drain.py",),
    default="default (.4, depth 4)",
)
