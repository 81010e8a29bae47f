"""The metrics of intake from Kafka. Labels are topics and partitions that are read, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ByPartition = Iterable[tuple[tuple[str, int], float]]
"""A value of each topic and partition."""
_UNKNOWN: Final = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFigures:
    """How far a process is with its partitions, and how long ago it did what; None: never yet."""

    lag: ByPartition
    seconds_behind: ByPartition
    retention_used: ByPartition
    resting: Iterable[str]
    """Topics that wait until an Auth0 tenant has caught up."""
    polled_ago: float | None
    committed_ago: float | None


class IntakeMetrics:
    """What Prometheus reads of one process's intake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "provisioner_intake_events",
            "Records taken in from Kafka",
            ("topic",),
            registry=registry,
        )
        self.restarts = Counter(
            "provisioner_intake_restarts",
            "Consumers that were replaced, since they failed or stood still",
            ("because",),
            registry=registry,
        )
        self.batches = Histogram(
            "provisioner_intake_batch_seconds",
            "Time to store what was read of one partition at once",
            ("topic",),
            registry=registry,
        )
        self._lag = _by_partition("lag_records", "Records not yet read", registry)
        self._behind = _by_partition(
            "lag_seconds", "Age of the oldest record not yet read", registry
        )
        self._retention = _by_partition(
            "retention_used", "That age as a share of the topic's retention", registry
        )
        self._resting = Gauge(
            "provisioner_intake_resting",
            "Topics that wait until an Auth0 tenant has caught up",
            ("topic",),
            registry=registry,
        )
        self._polled = _ago("polled", "Seconds since brokers were polled", registry)
        self._committed = _ago("committed", "Seconds since an offset was committed", registry)

    def tell(self, figures: IntakeFigures) -> None:
        """Brings the gauges up to date; what is not read here any more has none."""
        for gauge, values in (
            (self._lag, figures.lag),
            (self._behind, figures.seconds_behind),
            (self._retention, figures.retention_used),
        ):
            gauge.clear()
            for (topic, partition), value in values:
                gauge.labels(topic, partition).set(value)
        self._resting.clear()
        for topic in figures.resting:
            self._resting.labels(topic).set(1)
        for gauge, age in (
            (self._polled, figures.polled_ago),
            (self._committed, figures.committed_ago),
        ):
            gauge.set(_UNKNOWN if age is None else age)


def _by_partition(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(f"provisioner_intake_{name}", text, ("topic", "partition"), registry=registry)


def _ago(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    gauge = Gauge(f"provisioner_intake_{name}_seconds_ago", text, registry=registry)
    gauge.set(_UNKNOWN)
    return gauge
