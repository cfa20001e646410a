"""Prometheus metrics of a process: what the engine observes, and the counters of the app.

The engine tells an `Observer` what happened (ports.py); this one turns it into metrics. An app
declares its own counters by name, labels and help; units add to them, and only units that
completed count, so that a kill or a retry never shows a prompt twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# A stage answers in milliseconds, a full unit with repairs in hundreds; a held partition is no latency.
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RECORDS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BYTES_BUCKETS = tuple(1024 * 4**power for power in range(7))  # 1 KiB ... 4 MiB


@dataclass(frozen=True, slots=True)
class CounterSpec:
    """A counter the app adds to by `unit.count(name, amount, **labels)`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


class Metrics:
    """The engine's observer, backed by one registry. All names begin with that of the app."""

    def __init__(
        self, app: str, counters: tuple[CounterSpec, ...] = (), registry: CollectorRegistry | None = None
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._units = Histogram(
            f"{app}_stage_unit_seconds",
            "Time a stage takes for one unit of work, sends excluded.",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._records = Histogram(
            f"{app}_stage_unit_records",
            "Records in one unit of work.",
            ["stage"],
            buckets=RECORDS_BUCKETS,
            registry=self.registry,
        )
        self._bytes = Histogram(
            f"{app}_record_bytes",
            "Size of published records (frames, on internal topics).",
            ["topic"],
            buckets=BYTES_BUCKETS,
            registry=self.registry,
        )
        self._lag = Gauge(
            f"{app}_lag_records",
            "Records of a partition that are not processed yet.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self._dead_letters = Counter(
            f"{app}_dead_letters",
            "Records sent to dead-letters, by the topic they would be replayed to.",
            ["stage", "kind", "topic"],
            registry=self.registry,
        )
        self._errors = Counter(
            f"{app}_errors",
            "Failures by stage and kind, retried ones included.",
            ["stage", "kind"],
            registry=self.registry,
        )
        self._counters = {
            spec.name: Counter(f"{app}_{spec.name}", spec.help, spec.labels, registry=self.registry)
            for spec in counters
        }

    def unit_done(self, stage: str, records: int, seconds: float) -> None:
        self._units.labels(stage).observe(seconds)
        self._records.labels(stage).observe(records)

    def published(self, topic: str, size_bytes: int) -> None:
        self._bytes.labels(topic).observe(size_bytes)

    def dead_lettered(self, stage: str, kind: str, topic: str) -> None:
        self._dead_letters.labels(stage, kind, topic).inc()

    def failed(self, stage: str, kind: str) -> None:
        self._errors.labels(stage, kind).inc()

    def lag(self, topic: str, partition: int, records: int) -> None:
        self._lag.labels(topic, str(partition)).set(records)

    def count(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """Add to a counter of the app.

        Raises:
            KeyError: the counter was not declared.
        """
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)
