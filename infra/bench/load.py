"""The prompts of the bench, and how they are sent.

Rules
  * Texts are those of Dataset/ as they stand, then as many more as are wanted: a template filled with values
    spliced from two of its own prompts. Hardly a text comes twice (1 % of them), so no cache flatters either side.
  * Ids carry a prefix a phase (`load-000001`), so that the rows of a phase can be told apart in the database.
  * The same arguments give the same prompts in every run and to either pipeline.
"""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from confluent_kafka import Producer

from connectors.dataset import shipped
from connectors.kafka.client import KafkaAccess, confluent_configuration
from schemas.errors import ServiceUnavailable

TRUTH = "truth.jsonl.gz"
SEED = 20_260_901
FLUSH_TIMEOUT_S = 30.0
POLL_EVERY = 200  # sends between two looks at what the broker confirmed


@dataclass(frozen=True, slots=True)
class Submission:
    """One prompt to send."""

    prompt_id: str
    tenant: str
    text: str

    def record(self) -> bytes:
        return orjson.dumps({"id": self.prompt_id, "tenant": self.tenant, "text": self.text})


class Source:
    """An endless stream of prompts, drawn on phase by phase."""

    def __init__(self) -> None:
        with gzip.open(shipped() / TRUTH, "rb") as lines:
            rows = [orjson.loads(line) for line in lines]
        self._texts = _texts(rows)

    def take(self, prefix: str, amount: int) -> list[Submission]:
        """Return the next prompts, with ids of this prefix."""
        return [
            Submission(f"{prefix}-{number:06}", tenant, text)
            for number, (tenant, text) in enumerate(islice(self._texts, amount))
        ]


def send(
    kafka: KafkaAccess, topic: str, submissions: Sequence[Submission], *, per_second: float = 0.0
) -> dict[str, float]:
    """Send all prompts, at full speed or at a steady rate; return by id when each was sent (seconds since 1970).

    Raises:
        ServiceUnavailable: the broker did not take all of them.
    """
    producer = Producer({**confluent_configuration(kafka), "linger.ms": 0 if per_second else 20})
    sent_at: dict[str, float] = {}
    started = time.monotonic()
    for number, submission in enumerate(submissions):
        if per_second:
            time.sleep(max(0.0, started + number / per_second - time.monotonic()))
        sent_at[submission.prompt_id] = time.time()
        producer.produce(topic, submission.record(), key=submission.tenant)
        if number % POLL_EVERY == 0:
            producer.poll(0)
    if left := producer.flush(FLUSH_TIMEOUT_S):
        raise ServiceUnavailable(f"sending the prompts of the bench: {left} of {len(submissions)} were not confirmed")
    return sent_at


def _texts(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield tenant and text: the rows in a fixed mixed order, then variants of them without end."""
    chance = random.Random(SEED)  # noqa: S311  variety, not secrecy
    mixed = list(rows)
    chance.shuffle(mixed)
    siblings: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in mixed:
        siblings.setdefault((row["tenant"], row["template_id"]), []).append(row)
        yield row["tenant"], row["text"]
    while True:
        for row in mixed:
            other = chance.choice(siblings[row["tenant"], row["template_id"]])
            yield row["tenant"], _variant(row, other, chance)


def _variant(row: dict[str, Any], other: dict[str, Any], chance: random.Random) -> str:
    """Return the row's text with new values: of a one-off prompt the whole text counts as its value."""
    if row["template_id"] is None:
        return _spliced(row["text"], other["text"], chance)
    text: str = row["template"]
    for name, value in row["slots"].items():
        text = text.replace("{{" + name + "}}", _spliced(str(value), str(other["slots"].get(name, value)), chance))
    return text


def _spliced(value: str, other: str, chance: random.Random) -> str:
    """Return the beginning of one value, a number that tells variants apart, and the end of the other."""
    head, tail = value.split(" "), other.split(" ")
    return " ".join([*head[: (len(head) + 1) // 2], str(chance.randrange(10_000)), *tail[(len(tail) + 1) // 2 :]])
