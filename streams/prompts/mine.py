"""Find the templates in a file of prompts, in this process: the rooms' own logic without Kafka.

Two passes over the file. The first one learns: each prompt, in order, goes through embedding, clustering and
canonicalization exactly as it would in the stream, and its events are written as they happen. The second one
reads every prompt once more with the final templates, in the cluster it finally ended in.

Memory holds the state of the rooms and one small entry a line (the cluster it is in); vectors live for a batch.
A line that is no prompt is counted, reported and skipped; it has no prediction. A prompt that clustering refuses
(an id used twice for different texts) keeps its line, without a cluster.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from connectors.dataset.files import DAMAGED
from schemas import limits
from schemas.errors import ConflictingDuplicate, InputError, UndecodableRecord
from schemas.events import EvolutionEvent
from schemas.ids import prompt_id_of_line, prompt_id_of_record
from schemas.prompts import ClusterChangeKind, ClusteredStep, Moderation, Prompt
from streams.engine.ports import Record
from streams.prompts import ingest
from streams.prompts.canonicalization import logic as canonicalization
from streams.prompts.clustering import logic as clustering
from streams.prompts.clustering.arrivals import arrivals
from streams.prompts.clustering.policy import Policy as ClusteringPolicy

TENANT = "default"  # a file is one tenant's, whatever its lines say
BATCH_PROMPTS = 256  # embedded together
BATCH_CHARS_MAX = 1 << 20
PROBLEMS_SHOWN_MAX = 20
EXAMPLE_CHARS_MAX = 2_000  # of a slot's value beside a template: a document may be 256 KiB, and clusters are many
DEFAULT_POLICY = ClusteringPolicy()
NOT_MODERATED = Moderation(allowed=True, scores={}, moderator="none", policy_version="none")

Encode = Callable[[list[str]], NDArray[np.float32]]
Judge = Callable[[list[Prompt]], list[Moderation]]
Advance = Callable[[int], None]


class NoSchemas:
    """A file of JSON lines knows no writers' schemas: a line that begins as if it had one is no JSON, nothing more."""

    def known(self, reference: str) -> NoReturn:  # noqa: ARG002  the port's signature
        raise UndecodableRecord("decoding a line: it is not JSON in UTF-8")


class Space(Protocol):
    """The embedder's name and dimension."""

    name: str
    dimension: int


@dataclass(slots=True)
class Mined:
    """A cluster with its newest template that read one of its prompts, and the slots of the last such prompt."""

    cluster_id: str
    family_id: str | None
    template: str | None = None
    version: str | None = None
    prompts: int = 0
    example: dict[str, str] = field(default_factory=dict)  # long values are cut


@dataclass(slots=True)
class Summary:
    """What a run saw. `problems` are the first bad lines: (line number, what is wrong).

    `templates` has an entry for each cluster that prompts ended in, by its id, once all predictions are made.
    """

    prompts: int = 0
    bad_lines: int = 0
    refused: int = 0
    rejected: int = 0
    duplicates: int = 0
    clustered: int = 0
    raw: int = 0
    templates: dict[str, Mined] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def largest(self) -> list[Mined]:
        """Return the clusters, those of most prompts first."""
        return sorted(self.templates.values(), key=lambda mined: (-mined.prompts, mined.cluster_id))

    def read(self, cluster_id: str, reading: canonicalization.Reading) -> None:
        """Count a prompt that ended in a cluster, as it was read."""
        self.clustered += 1
        self.raw += reading.raw
        mined = self.templates.setdefault(cluster_id, Mined(cluster_id, reading.family_id))
        mined.prompts += 1
        if not reading.raw and _order_of(reading.version) >= _order_of(mined.version):
            mined.template, mined.version = reading.template, reading.version
            mined.example = {name: value[:EXAMPLE_CHARS_MAX] for name, value in reading.slots.items()}

    def bad(self, line: int, problem: str) -> None:
        self.bad_lines += 1
        self.problem(line, problem)

    def problem(self, line: int, problem: str) -> None:
        if len(self.problems) < PROBLEMS_SHOWN_MAX:
            self.problems.append((line, problem))


def _order_of(version: str | None) -> tuple[int, ...]:
    """Return what versions are ordered by; none comes before all others."""
    return tuple(map(int, version.split("."))) if version else ()


class Miner:
    """One file, one tenant: learn from it, then predict."""

    def __init__(
        self,
        path: Path,
        space: Space,
        encode: Encode,
        judge: Judge | None = None,
        policy: ClusteringPolicy = DEFAULT_POLICY,
    ) -> None:
        self.summary = Summary()
        self._path = path
        self._encode = encode
        self._judge = judge
        self._file_hash = file_hash(path)
        self._clustering = clustering.Clustering(TENANT, policy, space.name, space.dimension)
        self._canonicalization = canonicalization.Canonicalization(TENANT, canonicalization.Policy())
        self._home: dict[int, str] = {}  # line -> cluster; lines without one are absent
        self._merged: dict[str, str] = {}  # cluster -> the one it was merged into
        self._repeats: dict[int, str] = {}  # line of a duplicate -> its prompt id

    def learn(self, advance: Advance = lambda _: None) -> Iterator[EvolutionEvent]:
        """Run the stages over the file, in order; yield events as they happen."""
        for batch in self._batches(advance):
            verdicts = self._judge(batch) if self._judge else [NOT_MODERATED] * len(batch)
            allowed = [(prompt, verdict) for prompt, verdict in zip(batch, verdicts, strict=True) if verdict.allowed]
            self.summary.rejected += len(batch) - len(allowed)
            if not allowed:
                continue
            vectors = self._encode([prompt.text for prompt, _ in allowed])
            for arrival in arrivals(allowed, vectors):
                try:
                    steps = self._clustering.add(arrival)
                except ConflictingDuplicate as error:
                    self.summary.refused += 1
                    self.summary.problem(arrival.prompt.offset, str(error))
                    continue
                for step in steps:
                    yield from self._take(step)
        self._canonicalization.finish_learning()

    def _take(self, step: ClusteredStep) -> Iterator[EvolutionEvent]:
        assignment, change = step.assignment, step.change
        if assignment is not None and assignment.duplicate:
            self.summary.duplicates += 1
            self._repeats[assignment.prompt.offset] = assignment.prompt.prompt_id
        elif assignment is not None and assignment.cluster_id is not None:
            self._home[assignment.prompt.offset] = assignment.cluster_id
        elif assignment is not None:
            self._home.pop(assignment.prompt.offset, None)
        elif change is not None and change.kind is ClusterChangeKind.MERGED:
            self._merged.update(dict.fromkeys(change.other_cluster_ids, change.cluster_id))
        for event in self._canonicalization.apply(step).events:
            self.summary.events[event.type.value] += 1
            yield event

    def predictions(self, advance: Advance = lambda _: None) -> Iterator[dict[str, Any]]:
        """Read the file again; yield one prediction a prompt, in order, as the final state sees it."""
        repeated = set(self._repeats.values())
        first_home: dict[str, str | None] = {}
        for number, prompt in self._prompts(advance, report=False):
            if number in self._repeats:
                cluster_id = first_home.get(prompt.prompt_id)
            else:
                cluster_id = self._final(self._home.get(number))
                if prompt.prompt_id in repeated:
                    first_home.setdefault(prompt.prompt_id, cluster_id)
            if cluster_id is None:
                yield {"id": prompt.prompt_id, **NO_CLUSTER}
                continue
            reading = self._canonicalization.read(cluster_id, prompt.text)
            self.summary.read(cluster_id, reading)
            yield {
                "id": prompt.prompt_id,
                "cluster_id": cluster_id,
                "family_id": reading.family_id,
                "template": reading.template,
                "slots": reading.slots,
                "version": reading.version,
                "raw": reading.raw,
            }

    def _final(self, cluster_id: str | None) -> str | None:
        while cluster_id in self._merged:
            cluster_id = self._merged[cluster_id]
        return cluster_id

    def _batches(self, advance: Advance) -> Iterator[list[Prompt]]:
        batch: list[Prompt] = []
        chars = 0
        for _, prompt in self._prompts(advance, report=True):
            self.summary.prompts += 1
            if batch and (len(batch) == BATCH_PROMPTS or chars + len(prompt.text) > BATCH_CHARS_MAX):
                yield batch
                batch, chars = [], 0
            batch.append(prompt)
            chars += len(prompt.text)
        if batch:
            yield batch

    def _prompts(self, advance: Advance, *, report: bool) -> Iterator[tuple[int, Prompt]]:
        number = 0
        try:
            for number, line in lines_of(self._path, advance):
                try:
                    yield number, self._prompt(number, line)
                except InputError as error:
                    if report:
                        self.summary.bad(number, str(error))
        except UndecodableRecord as damage:  # the file itself: what stands before is mined all the same
            if report:
                self.summary.bad(number + 1, str(damage))

    def _prompt(self, number: int, line: bytes) -> Prompt:
        record = Record("prompts", 0, number, limits.CREATED_AT_MS_MIN, None, line)
        prompt = ingest.decode(record, NoSchemas())
        nameless = prompt.prompt_id == prompt_id_of_record(record.topic, record.partition, record.offset)
        own = {"prompt_id": prompt_id_of_line(self._file_hash, number)} if nameless else {}
        return prompt.model_copy(update={"tenant": TENANT, **own})


NO_CLUSTER: dict[str, Any] = {
    "cluster_id": None,
    "family_id": None,
    "template": None,
    "slots": {},
    "version": None,
    "raw": False,
}


def template_line(mined: Mined) -> dict[str, Any]:
    """Return what the templates file says of a cluster."""
    return {
        "cluster_id": mined.cluster_id,
        "family_id": mined.family_id,
        "prompts": mined.prompts,
        "version": mined.version,
        "template": mined.template,
        "example": mined.example,
    }


def event_line(event: EvolutionEvent) -> dict[str, Any]:
    """Return what the events file says of an event."""
    return {
        "type": event.type.value,
        "prompt_id": event.prompt_id,
        "cluster_id": event.cluster_id,
        "family_id": event.family_id,
        "previous_version": event.previous_version,
        "new_version": event.new_version,
        "reason": event.reason,
        "diff": event.diff,
    }


def lines_of(path: Path, advance: Advance) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of a file, plain or gzip; blank lines are skipped.

    A line longer than any record is cut there, so it is no JSON: the file may be no text at all, and one line of it.
    `advance` is told how many bytes of the file on disk were read.

    Raises:
        UndecodableRecord: the file is not what gzip wrote, or ends early.
    """
    with path.open("rb") as raw:
        stream = _opened(raw, path)
        at = 0
        try:
            for number, line in enumerate(iter(lambda: _line(stream), b""), 1):
                now = raw.tell()
                if now > at:
                    advance(now - at)
                    at = now
                if line.strip():
                    yield number, line
        except DAMAGED as error:
            raise UndecodableRecord(f"the compressed file is damaged: {error}; what follows is lost") from error


def _opened(raw: BinaryIO, path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw


def _line(stream: BinaryIO | gzip.GzipFile) -> bytes:
    """Return the next line, at most a little longer than a record may be; empty at the end."""
    line = stream.readline(limits.RECORD_BYTES_MAX + 1)
    rest = line
    while len(rest) > limits.RECORD_BYTES_MAX:
        rest = stream.readline(limits.RECORD_BYTES_MAX + 1)
    return line


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_line(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
