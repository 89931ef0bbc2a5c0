"""A simulated service with token buckets, and clients of it with a pace each, in simulated time. Knows the law alone."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipelines.embed.remote_pace import Limit, RemotePace


@dataclass
class Bucket:
    per_s: float
    most: float
    left: float = -1.0
    at: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.most if self.left < 0 else self.left

    def fill(self, now: float) -> None:
        self.left, self.at = min(self.most, self.left + self.per_s * (now - self.at)), now


@dataclass
class Service:
    """``told``: answers carry what is left, refusals how long to wait. ``latency_s`` from request to answer."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    told: bool = False
    latency_s: float = 0.2
    taken: list[tuple[float, int]] = field(default_factory=list)
    refused: int = 0

    def ask(self, now: float, size: int) -> tuple[bool, float | None, tuple[Limit, ...]]:
        buckets = [(name, bucket, need) for name, bucket, need in
                   (("requests", self.requests, 1.0), ("tokens", self.tokens, float(size))) if bucket]  # fmt: skip
        for _, bucket, _ in buckets:
            bucket.fill(now)
        wait_s = max((max(0.0, (need - bucket.left) / bucket.per_s) for _, bucket, need in buckets), default=0.0)
        if wait_s > 0:
            self.refused += 1
            return False, wait_s if self.told else None, ()
        for _, bucket, need in buckets:
            bucket.left -= need
        self.taken.append((now, size))
        limits = [Limit(name, bucket.per_s * 60, bucket.left, (bucket.per_s * 60 - bucket.left) / bucket.per_s)  # type: ignore[arg-type]
                  for name, bucket, _ in buckets]  # fmt: skip
        return True, None, tuple(limits) if self.told else ()

    def rate(self, begin: float, end: float) -> tuple[float, float]:
        """Tokens and requests a second that were taken in that time."""
        within = [size for at, size in self.taken if begin <= at < end]
        return sum(within) / (end - begin), len(within) / (end - begin)


def sizes_of(seed: int, low: int, high: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield chance.randint(low, high)


def run(service: Service, seconds: float, *, clients: int = 1, size: tuple[int, int] = (150, 250),
        most_in_flight: int = 16, seed: int = 1) -> None:  # fmt: skip
    """Clients that always have something to send, for so many seconds of simulated time."""
    paces = [RemotePace(most_in_flight, seed=seed + number) for number in range(clients)]
    waiting: list[list[int]] = [[] for _ in range(clients)]  # refused, to be sent again
    sources = [sizes_of(seed + number, *size) for number in range(clients)]
    flying: list[list[int]] = [[] for _ in range(clients)]
    events: list[tuple[float, int, int, str, tuple[object, ...]]] = []
    order, looks = iter(range(1 << 40)), [0.0] * clients
    for client in range(clients):
        heapq.heappush(events, (0.0, next(order), client, "look", ()))
    while events:
        now, _, client, kind, facts = heapq.heappop(events)
        if now > seconds:
            return
        if kind == "look" and now != looks[client]:
            continue  # another look was asked for since
        pace = paces[client]
        if kind == "back":
            sent_at, sent, (ok, retry_s, limits) = facts
            flying[client].remove(sent)  # type: ignore[arg-type]
            if ok:
                pace.answered(sent_at, now, sent, len(flying[client]), sum(flying[client]), limits)  # type: ignore[arg-type]
            else:
                pace.refused(sent_at, now, retry_s)  # type: ignore[arg-type]
                waiting[client].append(sent)  # type: ignore[arg-type]
        while True:
            if not waiting[client]:
                waiting[client].append(next(sources[client]))
            wait_s = pace.wait_s(now, len(flying[client]), waiting[client][-1])
            if wait_s > 0:
                looks[client] = now + max(wait_s, 1e-6) if wait_s < 1e9 else -1.0
                heapq.heappush(events, (looks[client], next(order), client, "look", ())) if wait_s < 1e9 else None
                break
            sent = waiting[client].pop()
            pace.sent(now, sent)
            flying[client].append(sent)
            answer = service.ask(now + service.latency_s / 2, sent)
            heapq.heappush(events, (now + service.latency_s, next(order), client, "back", (now, sent, answer)))
