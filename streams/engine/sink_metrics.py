"""Prometheus metrics of a sink, on top of those every process has."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streams.engine.metrics import Metrics

# From produce to commit: tens of milliseconds when all is well, minutes after an outage.
LANDED_SECONDS_BUCKETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class SinkMetrics(Metrics):
    """The observer of the sinks of one process."""

    def __init__(self, app: str) -> None:
        super().__init__(app)
        self._rows = Counter(
            f"{app}_sink_rows", "Rows committed, repeats included.", ["sink", "table"], registry=self.registry
        )
        self._behind = Gauge(
            f"{app}_sink_lag_records",
            "Records of a partition that are not written yet.",
            ["sink", "topic", "partition"],
            registry=self.registry,
        )
        self._landed = Histogram(
            f"{app}_sink_landed_seconds",
            "Time from a prompt's record in `prompts` to its commit in the sink.",
            ["sink"],
            buckets=LANDED_SECONDS_BUCKETS,
            registry=self.registry,
        )

    def rows_written(self, sink: str, table: str, rows: int) -> None:
        self._rows.labels(sink, table).inc(rows)

    def landed(self, sink: str, seconds: float) -> None:
        self._landed.labels(sink).observe(seconds)

    def behind(self, sink: str, topic: str, partition: int, records: int) -> None:
        self._behind.labels(sink, topic, str(partition)).set(records)
