"""Who may ask now: each tenant within its rate, and all together no more than the index answers in good time.

Never waits: a request that would have to is refused at once, with the time after which it is worth asking again. Used
from one event loop, where nothing comes between two lines, so there are no locks. Knows no HTTP and no index.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from jobs.service.adaptive_limit import AdaptiveLimit, Window
from jobs.service.limits import LimitSettings
from jobs.service.refusals import Overloaded, RateLimited
from jobs.service.shares import Shares
from jobs.service.token_buckets import TokenBuckets

_LONGEST_RETRY_S = 30.0
_FADES = 0.997


class Admission:
    """``enter`` for each request, and ``leave`` on what it returns, whatever happens in between."""

    def __init__(
        self, settings: LimitSettings, clock: Callable[[], float] = time.monotonic, *, seed: int | None = None
    ) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._per_s = settings.requests_per_s
        self._buckets = TokenBuckets(self._per_s or math.inf, settings.burst, settings.tenants_kept)
        self._shares = Shares(settings.tenants_kept)
        self._limit = AdaptiveLimit(start=settings.start, most=settings.max_in_flight, now=clock())
        self._served = self._refused = 0.0  # lately
        self.in_flight = 0
        self.rate_limited = self.overloaded = 0  # requests refused so far

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return self._limit.allowed

    def enter(self, tenant: str | None) -> Admitted:
        """
        Raises:
            RateLimited: the tenant has used up its rate.
            Overloaded: as many are in flight as the index answers in good time.
        """
        now, allowed = self._clock(), self._limit.allowed
        if self._per_s and (wait_s := self._buckets.wait_s(tenant, now)):
            self.rate_limited += 1
            raise RateLimited(wait_s)
        self._shares.ask(tenant, now, allowed)
        if not self._shares.has_room(tenant, self.in_flight, allowed):
            self._limit.pressed()
            self.overloaded += 1
            raise Overloaded(self._retry_after_s())
        if self._per_s:
            self._buckets.take(tenant, now)
        self._count(refused=False)
        self._shares.take(tenant)
        self.in_flight += 1
        if self.in_flight >= allowed:
            self._limit.pressed()
        return Admitted(self, tenant, now, self._limit.entered(now))

    def _count(self, *, refused: bool) -> None:
        """The newest few hundred requests count most."""
        self._served = self._served * _FADES + (not refused)
        self._refused = self._refused * _FADES + refused

    def _retry_after_s(self) -> float:
        """As many seconds as it takes to serve all who ask in one; not the same for all of them."""
        self._count(refused=True)
        asked = (self._served + self._refused) / max(1.0, self._served)
        return min(_LONGEST_RETRY_S, max(1.0, asked * self._random.uniform(0.5, 1.5)))

    def _leave(self, admitted: Admitted, seconds: float | None, dropped: bool) -> None:
        now = self._clock()
        self.in_flight -= 1
        self._shares.give_back(admitted.tenant, now - admitted.entered_at)
        if dropped:
            self._limit.dropped(admitted.entered_at, now)
        else:
            self._limit.answered(admitted.window, now, seconds)


class Admitted:
    """A request in hand."""

    __slots__ = ("_admission", "_left", "entered_at", "tenant", "window")

    def __init__(self, admission: Admission, tenant: str | None, entered_at: float, window: Window | None) -> None:
        self._admission = admission
        self._left = False
        self.tenant = tenant
        self.entered_at = entered_at
        self.window = window

    def leave(self, *, seconds: float | None, dropped: bool) -> None:
        """
        Args:
            seconds: what the index took; None where it was not asked, as for an answer that was kept.
            dropped: it did not answer in time, or refused for having too much to do.
        """
        if self._left:
            raise RuntimeError("a request has left twice")
        self._left = True
        self._admission._leave(self, seconds, dropped)
