"""What the next worker must know of a source partition, written down where it outlives every worker.

Two things: how the last transaction was decided, which the fence makes the coordinator forget; and whether an offset
was ever committed, which nothing shows any more once offsets are gone.

Both stand as the metadata of offsets, in a group of their own (`{group}-fences`): no topic has to be made for them. The
brokers drop the offsets of an idle group after a week, unless a commit asks for longer, which this one does.

Intuition: the notary writes on the door what he found in the book, before he opens a new page. Should he faint, his
successor reads the door.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from streams.engine.exactly_once.producer import ProducerId
from streams.engine.exactly_once.truth import Source

log = logging.getLogger(__name__)

BEHIND_ALL = 2**62  # the offset itself says nothing; monitors of lag must not find any
KEPT_MS = 10 * 365 * 86_400_000  # ten years: an app may rest for longer than its offsets are kept
NO_GENERATION, NO_MEMBER = -1, ""  # of a commit from outside; nobody ever joins the group


@dataclass(frozen=True, slots=True)
class Decision:
    """How the last transaction of an id was decided, and what the id was held under when it was last looked at."""

    producer: ProducerId
    committed: bool
    seen: ProducerId

    def outlives(self, now: ProducerId) -> bool:
        """Return whether nothing was under way since: to fence an owner out of a transaction takes two epochs."""
        return now.number == self.seen.number and now.epoch - self.seen.epoch in (0, 1)


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of one source partition. `worked` = the app has committed an offset there, whenever."""

    decision: Decision | None = None
    worked: bool = False


class Notes:
    """Reads and writes the notes of one group. Where the group may not be used, there are none."""

    def __init__(self, group: str) -> None:
        self.group = f"{group}-fences"
        self._forbidden = False

    async def read(self, client: AIOKafkaClient, sources: Iterable[Source]) -> dict[Source, Note]:
        """Return what is noted of some partitions.

        Raises:
            KafkaError: the coordinator does not answer yet.
        """
        node = await self._coordinator(client)
        if node is None:
            return {}
        answer = await client.send(node, OffsetFetchRequest(self.group, list(_by_topic(sources).items())))
        # In the version without it, errors stand with the partitions.
        _check("reading notes", [getattr(answer, "error_code", 0)])
        found: dict[Source, Note] = {}
        for topic, partitions in answer.topics:
            for partition, _, metadata, error in partitions:
                _check(f"reading the note of {topic}-{partition}", [error])
                if metadata:
                    found[topic, partition] = _parsed(metadata)
        return found

    async def write(self, client: AIOKafkaClient, notes: Mapping[Source, Note]) -> None:
        """Put notes in the place of those there are.

        Raises:
            KafkaError: the coordinator does not answer yet.
        """
        node = await self._coordinator(client) if notes else None
        if node is None:
            return
        topics = [
            (topic, [(number, BEHIND_ALL, _text(notes[topic, number])) for number in numbers])
            for topic, numbers in _by_topic(notes).items()
        ]
        answer = await client.send(node, OffsetCommitRequest(self.group, NO_GENERATION, NO_MEMBER, KEPT_MS, topics))
        _check("writing notes", [error for _, partitions in answer.topics for _, error in partitions])

    async def _coordinator(self, client: AIOKafkaClient) -> int | None:
        if self._forbidden:
            return None
        try:
            node: int = await client.coordinator_lookup(CoordinationType.GROUP, self.group)
        except GroupAuthorizationFailedError:
            self._forbidden = True
            log.warning(
                "notes for the next worker can be neither read nor written, grant READ on their group",
                extra={"group": self.group},
            )
            return None
        return node


def _by_topic(sources: Iterable[Source]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in sources:
        topics.setdefault(topic, []).append(partition)
    return topics


def _check(doing: str, errors: Iterable[int]) -> None:
    if wrong := {error for error in errors if error}:
        raise KafkaError(f"{doing}: error {wrong}")


def _text(note: Note) -> str:
    last = note.decision
    decision = last and [last.producer.number, last.producer.epoch, last.committed, last.seen.number, last.seen.epoch]
    return orjson.dumps({"decision": decision, "worked": note.worked}).decode()


def _parsed(text: str) -> Note:
    try:
        said = orjson.loads(text)
        if said["decision"] is None:
            return Note(None, said["worked"])
        number, epoch, committed, seen_number, seen_epoch = said["decision"]
    except (ValueError, TypeError, KeyError):
        log.warning("note cannot be read, going on without", extra={"note": text[:100]})  # of another version
        return Note()
    return Note(Decision(ProducerId(number, epoch), committed, ProducerId(seen_number, seen_epoch)), said["worked"])
