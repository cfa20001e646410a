"""Read the dead letters, and send them back to where they came from, each once.

Guarantee  A letter and the mark that it was sent stand in one Kafka transaction, under one transactional id. Who
           starts a replay fences whoever runs one already, and only then reads the marks: so neither a second
           replay, nor two at once, nor one that was killed, sends a letter twice.
Refused    A letter whose value was cut, or that does not say where it came from; a letter of a sink or of
           refinement whose topic others read as well, because those have had the record already. Everything, while a
           transaction hangs over the marks: what lies behind it cannot be read, and would be sent again.
Limits     Marks are kept for 14 days, letters for 3 (schemas/topics.py). Who keeps letters for longer must keep marks
           for at least as long, or what was sent is sent again.

Intuition: the letter and the receipt go into one envelope, and there is one postman.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import topics
from schemas.errors import PromptloomError, ServiceUnavailable
from schemas.limits import MIB
from streams.engine import frames, letters
from streams.engine.letters import DeadLetter, Filters, Place
from streams.engine.ports import Headers, Record

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
SETTLE_SECONDS_MAX = 5.0  # for the end of an earlier replay's transaction to reach the marks
SETTLE_PAUSE_S = 0.1
POLL_S = 0.5
FETCH_WAIT_MS_MAX = 50  # how long the end of a partition may go unnoticed
TRANSACTION_LETTERS_MAX = 200
TRANSACTION_BYTES_MAX = 8 * MIB
SINK_PREFIX = "sink-"

# Topics a stage reads. Whatever failed there has taken effect nowhere, so it may come again.
STAGE_TOPICS = frozenset(
    topic.name
    for topic in (
        topics.PROMPTS,
        topics.PROMPTS_REJECTED,
        topics.PROMPTS_MODERATED,
        topics.PROMPTS_EMBEDDED,
        topics.PROMPTS_CLUSTERED,
    )
)
# Read by a stage, and by the sinks.
SHARED_TOPICS = frozenset({topics.EVOLUTION_EVENTS.name})
# Read by sinks alone, to whom a repeat is harmless.
SINK_TOPICS = frozenset({topics.PROMPTS_CANONICALIZED.name})


class NoSuchLetter(PromptloomError):
    """No dead letter stands at, or came from, the place that was asked for."""


@dataclass(slots=True)
class Replayed:
    """What became of the letters that were meant."""

    sent: int = 0
    sent_before: int = 0
    refused: list[tuple[Place, str]] = field(default_factory=list)


class DeadLetterBox:
    """The dead letters of one deployment; `kafka` is what confluent-kafka's clients are given.

    A context manager, which reads one thing at a time: end one iteration over letters before the next begins.
    """

    def __init__(self, kafka: Mapping[str, Any], *, app_id: str) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._consumer = Consumer(
            {
                **kafka,
                # Partitions are assigned by hand: a reader leaves no group and no offsets behind.
                "group.id": f"{app_id}-dead-letters",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": FETCH_WAIT_MS_MAX,
            }
        )

    def __enter__(self) -> DeadLetterBox:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def letters(self, filters: Filters) -> Iterator[DeadLetter]:
        """Yield the letters that pass, up to where the topic ends now, in order by partition.

        Raises:
            ServiceUnavailable: there is no broker, or no such topic.
        """
        with _explained("reading the dead letters", self._kafka):
            for record in _to_the_end(self._consumer, topics.DEAD_LETTERS.name, filters.after_ms):
                letter = letters.read(record, topics.ERROR_HEADER_PREFIX)
                if filters.passes(letter):
                    yield letter

    def at(self, place: Place, every: Filters) -> DeadLetter:
        """Return the letter at a place, or the newest one made of the record there.

        Raises:
            NoSuchLetter: there is none (any more).
        """
        found = [letter for letter in self.letters(every) if letters.is_at(letter, place)]
        if not found:
            raise NoSuchLetter(
                f"looking for a dead letter: none stands at {place} or came from there",
                hint="promptloom dead-letters list shows all; they are kept for days, not for good",
            )
        return max(found, key=lambda letter: (letter.place == place, letter.record.timestamp_ms))

    def marks(self) -> frozenset[str]:
        """Return the marks of the letters that were sent back (see `mark_of`)."""
        return self._marks(self._partitions())

    def _marks(self, partitions: Mapping[str, int]) -> frozenset[str]:
        if topics.DEAD_LETTERS_REPLAYED.name not in partitions:
            return frozenset()
        with _explained("reading which dead letters were sent back", self._kafka):
            read = _to_the_end(self._consumer, topics.DEAD_LETTERS_REPLAYED.name, 0)
            return frozenset((record.key or b"").decode() for record in read)

    def replay(
        self, filters: Filters, *, limit: int | None = None, dry_run: bool = False, outcome: Replayed | None = None
    ) -> Replayed:
        """Send letters that pass back to where they came from, at most `limit` of them; return what became of them.

        Raises:
            ServiceUnavailable: there is no broker. What was sent before that is sent: an `outcome` that is handed
                in has the count.
        """
        outcome = outcome or Replayed()
        if dry_run:
            partitions = self._partitions()
            self._refuse_hidden_marks(partitions)
            for _ in islice(self._due(filters, partitions, self._marks(partitions), outcome), limit):
                outcome.sent += 1
            return outcome
        with _explained("sending dead letters back", self._kafka):
            producer = self._producer()
            producer.init_transactions(ANSWER_TIMEOUT_S)  # the fence: from here on nobody else sends any
            partitions = self._partitions()
            self._refuse_hidden_marks(partitions)
            due = islice(self._due(filters, partitions, self._marks(partitions), outcome), limit)
            for batch in frames.batches(
                due, _size_bytes, prompts_max=TRANSACTION_LETTERS_MAX, bytes_max=TRANSACTION_BYTES_MAX
            ):
                _send(producer, batch)
                outcome.sent += len(batch)
        return outcome

    def _refuse_hidden_marks(self, partitions: Mapping[str, int]) -> None:
        """Refuse to go on while marks stand behind a transaction that does not end: a replay's that a crash left open.

        Raises:
            ServiceUnavailable: there is one.
        """
        if topics.DEAD_LETTERS_REPLAYED.name not in partitions:
            return
        admin = AdminClient(dict(self._kafka))
        marks = TopicPartition(topics.DEAD_LETTERS_REPLAYED.name, 0)

        def end(isolation: IsolationLevel) -> int:
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            (asked,) = admin.list_offsets({marks: latest}, isolation_level=isolation).values()
            with _explained("looking where the marks end", self._kafka):
                return int(asked.result(ANSWER_TIMEOUT_S).offset)

        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while (readable := end(IsolationLevel.READ_COMMITTED)) < end(IsolationLevel.READ_UNCOMMITTED):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"sending dead letters back: a transaction hangs in {marks.topic}-{marks.partition} from offset "
                    f"{readable} on, so what was sent back before cannot be told",
                    hint=f"kafka-transactions.sh abort --topic {marks.topic} --partition {marks.partition} "
                    f"--start-offset {readable}, then run this again",
                )
            time.sleep(SETTLE_PAUSE_S)

    def _due(
        self, filters: Filters, partitions: Mapping[str, int], marks: frozenset[str], outcome: Replayed
    ) -> Iterator[tuple[DeadLetter, Place]]:
        """Yield the letters to send, and where to; note what becomes of the others."""
        for letter in self.letters(filters):
            problem = refusal(letter, partitions)
            if mark_of(letter) in marks:
                outcome.sent_before += 1
            elif problem or letter.origin is None:
                outcome.refused.append((letter.place, problem))
            else:
                yield letter, letter.origin

    def _partitions(self) -> dict[str, int]:
        """Return how many partitions each topic has."""
        with _explained("looking at the topics", self._kafka):
            found = self._consumer.list_topics(timeout=CONNECT_TIMEOUT_S).topics
            return {name: len(metadata.partitions) for name, metadata in found.items()}

    def _producer(self) -> Producer:
        return Producer({**self._kafka, "transactional.id": f"{self._app_id}-dead-letters-replay", "linger.ms": 5})


def refusal(letter: DeadLetter, partitions: Mapping[str, int]) -> str:
    """Return why a letter cannot be sent back; '' where it can."""
    origin = letter.origin
    if origin is None:
        return "its headers do not say where it came from"
    if letter.cut:
        return f"its value was cut: {letter.value_bytes} bytes came, and a dead letter has no room for them"
    if letter.stage.startswith(SINK_PREFIX) or origin.topic in SHARED_TOPICS:
        if origin.topic not in SINK_TOPICS:
            return f"others than {letter.stage} read {origin.topic}, and have had the record already"
    elif origin.topic not in STAGE_TOPICS:
        return f"no stage reads {origin.topic}"
    if origin.partition >= partitions.get(origin.topic, 0):
        return f"{origin.topic} has no partition {origin.partition}"
    return ""


def mark_of(letter: DeadLetter) -> str:
    """Return what marks a letter as sent: its place, and its time for the case that the topic is made anew."""
    return f"{letter.place}@{letter.record.timestamp_ms}"


def _size_bytes(due: tuple[DeadLetter, Place]) -> int:
    return len(due[0].record.value or b"")


def _send(producer: Producer, batch: Iterable[tuple[DeadLetter, Place]]) -> None:
    """Send letters and their marks in one transaction."""
    producer.begin_transaction()
    try:
        for letter, origin in batch:
            producer.produce(
                origin.topic,
                letter.record.value,
                letter.record.key,
                partition=origin.partition,
                headers=list(letter.headers),
            )
            mark = orjson.dumps({"sent_to": f"{origin.topic}-{origin.partition}", "came_from": str(origin)})
            producer.produce(topics.DEAD_LETTERS_REPLAYED.name, mark, mark_of(letter), partition=0)
            producer.poll(0)
        producer.commit_transaction(ANSWER_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].txn_requires_abort():
            producer.abort_transaction(ANSWER_TIMEOUT_S)
        raise


def _to_the_end(consumer: Consumer, topic: str, after_ms: int) -> Iterator[Record]:
    """Yield the committed records of a topic from a time on, up to where it ends at the start of the reading.

    Not further: a letter that was sent back and failed again is a letter, too, and would be sent back for ever.
    """
    metadata = consumer.list_topics(topic, timeout=ANSWER_TIMEOUT_S).topics[topic]
    if metadata.error is not None or not metadata.partitions:
        raise ServiceUnavailable(f"reading {topic}: the topic does not exist", hint="promptloom topics create makes it")
    starts = [TopicPartition(topic, number, after_ms or OFFSET_BEGINNING) for number in metadata.partitions]
    if after_ms:
        starts = consumer.offsets_for_times(starts, ANSWER_TIMEOUT_S)
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), ANSWER_TIMEOUT_S)[1]
        for number in metadata.partitions
    }
    consumer.assign(starts)
    reading = set(ends)
    while reading:
        message = consumer.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is None:
            record = _record(message)
            if record.offset < ends[record.partition]:
                yield record
            else:
                reading.discard(record.partition)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  librdkafka's public name
            reading.discard(int(message.partition() or 0))
        else:
            raise KafkaException(error)


def _record(message: Message) -> Record:
    _, timestamp_ms = message.timestamp()
    return Record(
        str(message.topic()),
        int(message.partition() or 0),
        int(message.offset() or 0),
        timestamp_ms,
        message.key(),
        message.value(),
        _headers(message),
    )


def _headers(message: Message) -> Headers:
    headers: Any = message.headers() or ()  # a list of pairs, whatever its annotation says
    return tuple(headers)


@contextmanager
def _explained(doing: str, kafka: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServiceUnavailable(
            f"{doing} at {kafka['bootstrap.servers']}: no answer within {ANSWER_TIMEOUT_S:g} s",
            hint="promptloom status shows whether the broker runs",
        ) from error
    except KafkaException as error:
        if error.args[0].code() in {KafkaError._FENCED, KafkaError.PRODUCER_FENCED}:  # noqa: SLF001
            raise ServiceUnavailable(
                f"{doing}: another replay began and took over; nothing is sent twice",
                hint="wait for it, then run this again",
            ) from error
        raise ServiceUnavailable(
            f"{doing} at {kafka['bootstrap.servers']}: {error.args[0].str()}",
            hint="promptloom status shows whether the broker runs",
        ) from error
