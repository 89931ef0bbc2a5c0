"""How many requests one tenant may have in hand when all ask for more than there is. Knows no limit of rate.

Max-min fairness: who needs less than an equal share has what it needs, and the others share the rest equally. What a
tenant needs follows from how often it asked in the second before (Little's law). Not thread-safe.
"""

from __future__ import annotations

import math
from collections import Counter


class Shares:
    """Times are given, in seconds. ``kept`` bounds the tenants of one second that are told apart."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._second = 0
        self._asked: Counter[str | None] = Counter()
        self._held: Counter[str | None] = Counter()  # of those that hold any
        self._lasts_s = 0.0
        self._share = math.inf
        self._first: str | None = None
        self._seen = self._several = False  # a tenant, tenants

    def ask(self, tenant: str | None, now: float, allowed: int) -> None:
        second = int(now)
        if second != self._second:
            self._share = self._fair(allowed) if second == self._second + 1 else math.inf
            self._asked.clear()
            self._second = second
        if not self._several:
            self._several = self._seen and tenant != self._first
            self._first, self._seen = tenant, True
        if tenant in self._asked or len(self._asked) < self._kept:
            self._asked[tenant] += 1

    def has_room(self, tenant: str | None, in_flight: int, allowed: int) -> bool:
        held = self._held[tenant]
        if in_flight >= allowed or not self._several or held < allowed / max(2, len(self._asked)):
            return in_flight < allowed
        # The last slot is for those that hold less than others: one that asks rarely has no need that could be known.
        return held < self._share and in_flight < max(1, allowed - 1)

    def take(self, tenant: str | None) -> None:
        self._held[tenant] += 1

    def give_back(self, tenant: str | None, lasted_s: float) -> None:
        self._lasts_s += 0.05 * (lasted_s - self._lasts_s)
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]

    def _fair(self, allowed: int) -> float:
        """Slots that each tenant may hold; infinite where there is enough for all."""
        needs = sorted(asked * self._lasts_s for asked in self._asked.values())
        modest = 0.0  # what those need who need little
        for number, need in enumerate(needs):
            others = len(needs) - number
            share = max(allowed / len(needs), (allowed - modest - 2 * math.sqrt(modest)) / others)  # for it varies
            if need > share:
                return share
            modest += need
        return math.inf
