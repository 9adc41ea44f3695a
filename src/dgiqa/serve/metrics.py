"""What the service counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Bounds of the seconds that an answer takes.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("dgiqa_requests", "Answered requests", ["route", "status"], **of)
        self.pictures = Counter("dgiqa_pictures", "Pictures worked on", ["status"], **of)
        self.seconds = Histogram("dgiqa_request_seconds", "From request to answer", ["route"], buckets=_SECONDS, **of)
        self.batch = Histogram("dgiqa_batch_pictures", "Pictures in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), **of)
        self.waiting = Gauge("dgiqa_waiting_pictures", "Pictures that wait for a worker", **of)
        self.running = Gauge("dgiqa_running_requests", "Requests that are being served", **of)
        self.held = Gauge("dgiqa_held_bytes", "Bytes of bodies in memory", **of)

    def as_text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
