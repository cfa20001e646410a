"""Did the faults bite? What the processes said about what they refused and mended, counted in their logs.

A clean verdict after a fault that never touched anything proves nothing. So each result says how often a zombie was
fenced, a sink was refused, a transaction that hung open was ended, a store on a full disk was dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SAID: Mapping[str, tuple[str, str]] = {  # what it shows -> (whose log, words in a line)
    "sessions started over": ("worker-*.log", "session starts over"),
    "producers fenced": ("worker-*.log", "ProducerFenced"),
    "hanging transactions ended": ("worker-*.log", "hanging transaction ended"),
    "state stores dropped": ("worker-*.log", "state store dropped"),
    "partitions held": ("worker-*.log", "partition held"),
    "sinks refused": ("sink-*.log", "another sink has moved the offsets"),
    "sinks held": ("sink-*.log", "sink held"),
}


def evidence(log_folder: Path) -> dict[str, int]:
    """Return how many lines of the logs show each of these."""
    counts = dict.fromkeys(SAID, 0)
    for name, (pattern, words) in SAID.items():
        for path in log_folder.glob(pattern):
            with path.open(errors="replace") as lines:
                counts[name] += sum(words in line for line in lines)
    return counts
