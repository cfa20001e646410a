"""Send files of prompts to `prompts`, once each, however often it is interrupted.

State      One checkpoint a file (replay_state.py): what the broker has acknowledged, in the file's order.
Output     `prompts`: JSON, key = tenant, CloudEvents headers. The id is the client's, else derived from the
           file's content and the row's number, so that sending a row again is a repeat and not a second prompt.
Guarantee  Every row is acknowledged or reported as bad before it counts. After a stop of any kind, `resume`
           sends what is left, and at most the rows again that were on their way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.dataset import BadLine, PromptFile, Reading, Row, read, sha256_of
from schemas.errors import ServiceUnavailable
from schemas.topics import PROMPTS
from streams.engine.partitioning import partition_of
from streams.prompts.ctrl_c import CtrlC
from streams.prompts.replay_records import Outgoing, record_of
from streams.prompts.replay_state import Checkpoint, Checkpoints, Report, Window

CONNECT_TIMEOUT_S = 8.0
# How long a prompt may wait for an acknowledgement: a broker restarts in this time, one that is gone gets reported.
DELIVERY_TIMEOUT_MS = 60_000
FLUSH_ON_STOP_S = 10.0
QUEUE_PROMPTS_MAX = 20_000
QUEUE_KIB_MAX = 64 * 1024  # of prompts in memory, whatever their size
PROGRESS_INTERVAL_S = 0.2
CHECKPOINT_INTERVAL_S = 1.0
RATE_WAIT_S_MAX = 0.1  # between looks at what the broker says while a rate is kept
RESUME_HINT = "once the broker is back, `promptloom replay --resume` sends the rest"


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay. `tenant` replaces that of every row; `rate` is prompts a second; `limit` counts this run."""

    tenant: str = ""
    rate: float | None = None
    limit: int | None = None
    resume: bool = False
    topic: str = PROMPTS.name


@dataclass(frozen=True, slots=True)
class FileProgress:
    """Where a file stands. `prompts` and `bad` are settled in all runs, `sent` left in this one."""

    file: PromptFile
    prompts: int = 0
    bad: int = 0
    sent: int = 0
    bytes_read: int = 0
    complete: bool = False


@dataclass(slots=True)
class Summary:
    """What a replay did."""

    report: Path
    files: list[FileProgress] = field(default_factory=list)
    bad_reported: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def sent(self) -> int:
        return sum(file.sent for file in self.files)

    @property
    def bad(self) -> int:
        return sum(file.bad for file in self.files)


OnProgress = Callable[[FileProgress], None]


def replay(
    files: Sequence[PromptFile],
    producer_config: Mapping[str, Any],
    *,
    folder: Path,
    report: Path,
    options: Options | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> Summary:
    """Send the files' prompts, in order, and return what became of them.

    Ctrl-C ends it cleanly: the summary says `interrupted`, and the checkpoints in `folder` know the rest.

    Raises:
        ServiceUnavailable: the broker does not answer, has no such topic, or stopped acknowledging.
    """
    options = options or Options()
    producer = Producer(
        {
            **producer_config,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "message.timeout.ms": DELIVERY_TIMEOUT_MS,
            "queue.buffering.max.messages": QUEUE_PROMPTS_MAX,
            "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
        }
    )
    cluster_id, partitions = _topic(producer, options.topic)
    checkpoints = Checkpoints(folder, cluster_id=cluster_id, topic=options.topic, tenant=options.tenant)
    summary = Summary(report)
    sender = _Sender(producer, partitions, options, Report(report), on_progress)
    try:
        for file in files:
            sha256 = sha256_of(file)
            checkpoint = checkpoints.load(file.path, sha256) if options.resume else Checkpoint(str(file.path))
            summary.files.append(FileProgress(file, checkpoint.prompts, checkpoint.bad, complete=checkpoint.complete))
            if checkpoint.complete or sender.exhausted:
                continue
            try:
                sender.send_file(file, sha256, checkpoint, checkpoints)
            finally:
                summary.files[-1] = sender.progress
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        sender.report.close()
        summary.bad_reported = sender.report.lines
        summary.seconds = time.monotonic() - sender.started
    return summary


class _Sender:
    """Sends one file after the other over one producer, at one rate."""

    def __init__(
        self, producer: Producer, partitions: int, options: Options, report: Report, on_progress: OnProgress
    ) -> None:
        self.report = report
        self.started = time.monotonic()
        self.progress: FileProgress
        self._producer = producer
        self._partitions = partitions
        self._options = options
        self._on_progress = on_progress
        self._sent = 0
        self._failure: KafkaError | None = None
        self._ctrl_c = CtrlC()
        self._progress_at = self._checkpoint_at = self.started

    @property
    def exhausted(self) -> bool:
        return self._options.limit is not None and self._sent >= self._options.limit

    def send_file(self, file: PromptFile, sha256: str, checkpoint: Checkpoint, checkpoints: Checkpoints) -> None:
        """Send what the checkpoint leaves of a file; whatever ends it, the checkpoint is right afterwards."""
        window = Window(checkpoint)
        self.progress = FileProgress(file, window.prompts, window.bad)
        reading = read(file)
        complete = False
        try:
            with self._ctrl_c:
                complete = self._send_rows(file, sha256, checkpoint.settled, reading, window, checkpoints)
                self._flush(DELIVERY_TIMEOUT_MS / 1000)
        except BaseException:
            self._producer.flush(FLUSH_ON_STOP_S)
            complete = False
            raise
        finally:
            self._note(reading, window, complete=complete)
            self._save(window, sha256, checkpoints, complete=complete)

    def _send_rows(
        self,
        file: PromptFile,
        sha256: str,
        settled: int,
        reading: Reading,
        window: Window,
        checkpoints: Checkpoints,
    ) -> bool:
        for row in reading:
            if row.number <= settled:
                continue
            if self.exhausted:
                return False
            problem = row if isinstance(row, BadLine) else self._send_row(file, sha256, row, window)
            if problem:
                self.report.add(file.path, problem)
                window.found_bad(row.number)
            self._look(reading, window, sha256, checkpoints)
        return True

    def _send_row(self, file: PromptFile, sha256: str, row: Row, window: Window) -> BadLine | None:
        record = record_of(row, file, sha256, tenant=self._options.tenant)
        if isinstance(record, BadLine):
            return record
        self._keep_rate()
        window.sent(row.number)
        self._produce(record, _Acknowledge(self, window, row.number))
        self._sent += 1
        self.progress = replace(self.progress, sent=self.progress.sent + 1)
        return None

    def _produce(self, record: Outgoing, on_delivery: _Acknowledge) -> None:
        while True:
            try:
                self._producer.produce(
                    self._options.topic,
                    record.value,
                    record.tenant.encode(),
                    partition_of(record.tenant, self._partitions),
                    on_delivery,
                    headers=list(record.headers),
                )
                return
            except BufferError:
                self._producer.poll(RATE_WAIT_S_MAX)
                self._raise_if_over()

    def _keep_rate(self) -> None:
        if not self._options.rate:
            return
        while (wait := self.started + self._sent / self._options.rate - time.monotonic()) > 0:
            self._producer.poll(min(wait, RATE_WAIT_S_MAX))
            self._raise_if_over()

    def _look(self, reading: Reading, window: Window, sha256: str, checkpoints: Checkpoints) -> None:
        """Take what the broker said, and now and then tell and remember how far it is."""
        self._producer.poll(0)
        self._raise_if_over()
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_INTERVAL_S:
            self._progress_at = now
            self._note(reading, window, complete=False)
        if now - self._checkpoint_at >= CHECKPOINT_INTERVAL_S:
            self._checkpoint_at = now
            self._save(window, sha256, checkpoints, complete=False)

    def _note(self, reading: Reading, window: Window, *, complete: bool) -> None:
        bytes_read = self.progress.file.size if complete else max(self.progress.bytes_read, reading.bytes_read)
        self.progress = replace(
            self.progress, prompts=window.prompts, bad=window.bad, bytes_read=bytes_read, complete=complete
        )
        self._on_progress(self.progress)

    def _save(self, window: Window, sha256: str, checkpoints: Checkpoints, *, complete: bool) -> None:
        path = str(self.progress.file.path)
        checkpoints.save(Checkpoint(path, window.settled, window.prompts, window.bad, complete), sha256)

    def failed(self, error: KafkaError) -> None:
        """Remember the first prompt the broker would not take; the next look raises it."""
        self._failure = self._failure or error

    def _flush(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        # In short waits, so that ctrl-C is heard between them.
        while (left := self._producer.flush(PROGRESS_INTERVAL_S)) and time.monotonic() < deadline:
            self._raise_if_over()
        self._raise_if_over()
        if left:
            raise ServiceUnavailable(f"replaying: {left} prompts are without an acknowledgement", hint=RESUME_HINT)

    def _raise_if_over(self) -> None:
        if self._ctrl_c.heard:
            raise KeyboardInterrupt
        if self._failure:
            raise ServiceUnavailable(
                f"replaying: the broker took a prompt no more ({self._failure.str()})", hint=RESUME_HINT
            )


class _Acknowledge:
    """What librdkafka calls for one prompt."""

    __slots__ = ("_number", "_sender", "_window")

    def __init__(self, sender: _Sender, window: Window, number: int) -> None:
        self._sender, self._window, self._number = sender, window, number

    def __call__(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._window.acknowledged(self._number)
        else:
            self._sender.failed(error)


def _topic(producer: Producer, topic: str) -> tuple[str, int]:
    """Return the cluster's id and the topic's number of partitions."""
    try:
        metadata = producer.list_topics(topic, timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        raise ServiceUnavailable(
            f"replaying: no Kafka broker answers ({error.args[0].str()})",
            hint="`promptloom up` starts one here; PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS names another",
        ) from None
    found = metadata.topics[topic]
    if found.error or not found.partitions:
        raise ServiceUnavailable(f"replaying: there is no topic {topic}", hint="`promptloom topics create` makes it")
    return str(metadata.cluster_id), len(found.partitions)
