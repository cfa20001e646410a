"""Three brokers on this machine: replicas, elections and brokers that go away, for the tests.

Every node is broker and controller at once, as the single one is. Two of three keep the cluster going: a
majority of controllers, and `min.insync.replicas` of every partition. Ports are chosen before the first
start, because each node names all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from infra.embedded import jars
from infra.embedded.kafka import Kafka, new_cluster_id
from infra.embedded.ports import HOST, choose

NODES = 3
NODE_HEAP_MIB = 256
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class Node(Kafka):
    """One of the brokers; `voters` are the controllers of all of them."""

    heap_mib = NODE_HEAP_MIB

    def __init__(
        self, data_dir: Path, cache_dir: Path, number: int, ports: tuple[int, int], voters: Sequence[str]
    ) -> None:
        super().__init__(data_dir / f"broker-{number}", cache_dir)
        self.number = number
        self.ports = ports
        self._voters = voters

    def settings(self) -> dict[str, str]:
        quorum = {"node.id": str(self.number), "controller.quorum.voters": ",".join(self._voters)}
        return super().settings() | REPLICATED | quorum


class Cluster:
    """The brokers of a new folder, running while the context is open."""

    def __init__(self, data_dir: Path, cache_dir: Path) -> None:
        ports = choose(2 * NODES, (), data_dir)
        pairs = list(zip(ports[::2], ports[1::2], strict=True))
        voters = [f"{number}@{HOST}:{controller}" for number, (_, controller) in enumerate(pairs, start=1)]
        self.nodes = [Node(data_dir, cache_dir, number, pair, voters) for number, pair in enumerate(pairs, start=1)]
        cluster_id = new_cluster_id()
        for node in self.nodes:
            node.cluster_id = cluster_id

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def __enter__(self) -> Cluster:
        jars.ensure(self.nodes[0].cache_dir)  # once, before three ask for it
        try:
            with ThreadPoolExecutor(NODES) as threads:  # none answers before a second one is there
                list(threads.map(lambda node: node.start(detached=False), self.nodes))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        # All at once, and not in good order: a node without a majority would wait for one.
        for node in self.nodes:
            node.kill()
            node.stop()
