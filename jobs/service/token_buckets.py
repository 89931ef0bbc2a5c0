"""How often each tenant may ask: a bucket of tokens each. Knows no request; times are given, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class TokenBuckets:
    """Every tenant has ``burst`` tokens at first and gets ``per_s`` of them a second, up to ``burst``.

    Buckets of ``kept`` tenants at most; the one that was idle longest is forgotten first, and a forgotten tenant begins
    with a full bucket. Not thread-safe.
    """

    def __init__(self, per_s: float, burst: int, kept: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._kept = kept
        self._buckets: OrderedDict[str | None, _Bucket] = OrderedDict()

    def wait_s(self, tenant: str | None, now: float) -> float:
        """Seconds until the tenant has a token; 0: it has one."""
        bucket = self._buckets.get(tenant)
        if bucket is None:
            return 0.0
        return max(0.0, (1.0 - self._filled(bucket, now)) / self._per_s)

    def take(self, tenant: str | None, now: float) -> None:
        """One token, which must be there."""
        bucket = self._buckets.setdefault(tenant, _Bucket(self._burst, now))
        bucket.tokens, bucket.at = self._filled(bucket, now) - 1.0, now
        self._buckets.move_to_end(tenant)
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + (now - bucket.at) * self._per_s)
