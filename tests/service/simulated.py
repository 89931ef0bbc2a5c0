"""An index of a few slots, before which requests queue, and clients who ask at random moments, in virtual time.

Knows the admission that stands between the two; knows no process, socket or real clock.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobs.service.admission import Admission, Admitted
from jobs.service.limits import LimitSettings
from jobs.service.problems import Refusal

Draw = Callable[[random.Random], float]


@dataclass(frozen=True)
class Demand:
    """Requests of one tenant, by a Poisson process."""

    per_s: float
    tenant: str | None = None
    begin: float = 0.0
    end: float = math.inf


@dataclass(frozen=True)
class Asked:
    """``seconds`` is None for a refusal, infinite for what was given up at the deadline."""

    at: float
    tenant: str | None
    seconds: float | None


@dataclass
class World:
    """``slots`` and ``service_s`` may be changed at any time by ``at``."""

    settings: LimitSettings
    slots: int = 8
    service_s: Draw = lambda _: 0.050
    seed: int = 0
    asked: list[Asked] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = 0.0
        self._random = random.Random(self.seed)
        self.admission = Admission(self.settings, lambda: self.now, seed=self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._queue: deque[Callable[[], None]] = deque()
        self._busy = 0

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def run(self, demands: Sequence[Demand], seconds: float) -> World:
        for demand in demands:
            self._come(demand, demand.begin)
        while self._events and self._events[0][0] <= seconds:
            self.now, _, do = heapq.heappop(self._events)
            do()
        return self

    def _come(self, demand: Demand, after: float) -> None:
        when = after + self._random.expovariate(demand.per_s)
        if when < demand.end:
            self.at(when, lambda: self._ask(demand))

    def _ask(self, demand: Demand) -> None:
        self._come(demand, self.now)
        self.limits.append((self.now, self.admission.limit))
        try:
            admitted = self.admission.enter(demand.tenant)
        except Refusal:
            self.asked.append(Asked(self.now, demand.tenant, None))
            return
        _Request(self, admitted)

    def work(self, do: Callable[[], None]) -> None:
        """``do`` is called when the index has answered."""
        self._queue.append(do)
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._busy < self.slots:
            self._busy += 1
            done = self._queue.popleft()
            self.at(self.now + self.service_s(self._random), lambda done=done: self._end(done))  # type: ignore[misc]

    def _end(self, done: Callable[[], None]) -> None:
        self._busy -= 1
        done()
        self._serve()

    # What was seen of those who asked between two moments.

    def goodput(self, begin: float, end: float, tenant: str | None = None) -> float:
        return len(self.seconds(begin, end, tenant)) / (end - begin)

    def share(self, begin: float, end: float, tenant: str | None) -> float:
        """Of a tenant's requests, those that were answered."""
        asked = sum(begin <= each.at < end and each.tenant == tenant for each in self.asked)
        return len(self.seconds(begin, end, tenant)) / asked

    def seconds(self, begin: float, end: float, tenant: str | None = None) -> list[float]:
        return sorted(
            each.seconds for each in self.asked
            if begin <= each.at < end and (tenant is None or each.tenant == tenant)
            and each.seconds is not None and each.seconds < math.inf
        )  # fmt: skip

    def p99(self, begin: float, end: float, tenant: str | None = None) -> float:
        found = self.seconds(begin, end, tenant)
        return found[math.ceil(0.99 * len(found)) - 1]

    def limit_at(self, when: float) -> int:
        return next(limit for at, limit in reversed(self.limits) if at <= when)


class _Request:
    """Given up at the deadline, though the index goes on with it."""

    def __init__(self, world: World, admitted: Admitted) -> None:
        self._world, self._admitted, self._began, self._left = world, admitted, world.now, False
        world.work(lambda: self._leave(dropped=False))
        world.at(world.now + world.settings.deadline_s, lambda: self._leave(dropped=True))

    def _leave(self, *, dropped: bool) -> None:
        if self._left:
            return
        self._left = True
        took = self._world.now - self._began
        self._admitted.leave(seconds=took, dropped=dropped)
        self._world.asked.append(Asked(self._began, self._admitted.tenant, math.inf if dropped else took))
