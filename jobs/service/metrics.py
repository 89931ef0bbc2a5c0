"""What the service counts, for Prometheus. Knows no route."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Never labelled by tenant or by anything that clients choose: their number is bounded."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "backhaul_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram("backhaul_request_seconds", "From the first byte to the last", ["route"], buckets=_SECONDS,
                                 registry=registry)  # fmt: skip
        self.index = Histogram(
            "backhaul_index_seconds", "Of a request, in the index", buckets=_SECONDS, registry=registry
        )
        self.embed = Histogram("backhaul_embed_seconds", "Of a request, until it had its query vector", buckets=_SECONDS,
                               registry=registry)  # fmt: skip
        self.cache = Gauge("backhaul_cache_hit_ratio", "Of all look-ups since the start", ["cache"], registry=registry)
        self.foreign = Counter(
            "backhaul_foreign_hits", "Hits of another tenant that were kept back: a defect", registry=registry
        )
        self.live = Gauge(
            "backhaul_live_generation", "1 for the generation that answers", ["generation"], registry=registry
        )
        self.ready = Gauge("backhaul_ready", "Whether readyz says so", registry=registry)
        self.in_flight = Gauge("backhaul_in_flight", "Requests in the index", registry=registry)
        self.limit = Gauge("backhaul_in_flight_limit", "As learnt from latency", registry=registry)
        self.circuit_open = Gauge("backhaul_circuit_open", "1: the index is left alone for a while", registry=registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
