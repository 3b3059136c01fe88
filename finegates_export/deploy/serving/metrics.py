"""The metrics that Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server. All work passes through the server, so nothing has to be gathered from replicas."""

    def __init__(self) -> None:
        disable_created_metrics()  # suppress a second line per counter, which the text format does not need
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "finegates_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "finegates_request_seconds", "Time from a request's arrival to its answer.", ("route",),
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batch_texts = Histogram(
            "finegates_batch_texts", "Texts sent to a replica together.", buckets=TEXTS, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "finegates_batch_seconds", "Time that a replica took for a batch.", buckets=SECONDS, registry=self._registry
        )
        self._resent = Counter(
            "finegates_batches_resent", "Batches sent to another replica because theirs died.", registry=self._registry
        )

    def watch(self, name: str, told: str, value: Callable[[], float]) -> None:
        """Register a gauge that is evaluated on every read."""
        Gauge(f"finegates_{name}", told, registry=self._registry).set_function(value)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, texts: int, seconds: float) -> None:
        """A replica answered."""
        self._batch_texts.observe(texts)
        self._batch_seconds.observe(seconds)

    def resent(self) -> None:
        """A replica did not answer."""
        self._resent.inc()

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
