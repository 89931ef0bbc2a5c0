"""How much to ask of an embedding service at once and per second, learnt from its answers alone.

The law, without threads or a clock: times are given, in seconds. Sizes are tokens. Knows no requests and no texts.

Every worker has a pace of its own; additive increase and multiplicative decrease lead all of them to a fair share of
one account's limit without a coordinator (Chiu and Jain, 1989). An index has a capacity and is asked for less when it
is busy (``opensearch_pace``); a service has a limit per minute besides, under which the number of requests in flight
tells nothing. So two things are learnt here: how many in flight, and how many tokens a second.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Literal

_FIRST_IN_FLIGHT = 2
_WINDOW_S = 4.0  # over which the rate that was let through is measured
_LEAST_WINDOW_S, _LEAST_ANSWERS = 0.3, 6
_KEEPS = 0.98  # of the rate that was let through, after a refusal
_GROWTH = 0.01  # of the rate, each second after that
_REGROWTH_S = 20.0  # after which growth is fast: the limit was another one
_AGAIN_S = 0.5  # after which a refusal tells something new
_STEP = 0.9  # of the rate, at least, after one refusal
_PROBE_S, _LONGEST_PROBE_S = 0.1, 4.0
_LONGEST_WAIT_S = 120.0  # for which a service's word is taken

Resource = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What an answer said of a limit: how much of ``most`` is left, and in how many seconds it is whole again."""

    resource: Resource
    most: float
    left: float
    whole_in_s: float


@dataclass(slots=True)
class _Bucket:
    """The service's own account of one resource, as its last answer had it."""

    left: float
    most: float
    per_s: float
    at: float

    def level(self, now: float) -> float:
        return min(self.most, self.left + self.per_s * (now - self.at))

    def wait_s(self, now: float, size: float) -> float:
        missing = min(size, self.most) - self.level(now)
        return 0.0 if missing <= 0 else missing / self.per_s if self.per_s > 0 else 0.0

    def take(self, now: float, size: float) -> None:
        self.left, self.at = self.level(now) - size, now


class RemotePace:
    """- One more in flight after each round of answers, up to a bound; half as many after an overload, once for all
      that were under way; one at a time, at growing intervals, while nobody answers.
    - A refusal for the rate (429, throttling) sets the rate to a little less than what was let through in the last
      seconds. From there it grows by ``_GROWTH`` a second, and fast after a while without a refusal.
    - Where answers say what is left of a limit, nothing is sent that would not fit.
    - ``Retry-After`` is kept, and nothing is sent before.
    """

    def __init__(self, most_in_flight: int, *, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._most_in_flight = most_in_flight
        self._limit = float(min(_FIRST_IN_FLIGHT, most_in_flight))
        self._target = float(most_in_flight)  # up to which the limit grows fast
        self._base: float | None = None  # tokens a second at the last refusal; None: nobody ever refused
        self._reduced_at = self._refused_at = -math.inf
        self._next_at = 0.0  # by the rate
        self._allowed_at = 0.0  # by Retry-After
        self._probe_at, self._probe_s = 0.0, _PROBE_S  # while nobody answers
        self._taken: deque[tuple[float, float]] = deque()  # (when it was sent, size) of what was answered
        self._buckets: dict[Resource, _Bucket] = {}

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._limit)

    def rate(self, now: float) -> float:
        """Tokens a second; infinite until somebody refuses."""
        if self._base is None:
            return math.inf
        since = now - self._refused_at
        return self._base * (1 + _GROWTH * since + (since / _REGROWTH_S) ** 3 * 0.1)

    def wait_s(self, now: float, in_flight: int, size: int) -> float:
        """Seconds until a request of ``size`` may be sent; infinite while others must end first."""
        if in_flight >= self.limit:
            return math.inf
        waits = [self._allowed_at - now, self._probe_at - now, self._next_at - now]
        waits += [bucket.wait_s(now, self._of(resource, size)) for resource, bucket in self._buckets.items()]
        return max(0.0, *waits)

    def sent(self, now: float, size: int) -> None:
        if self._base is not None:
            self._next_at = max(self._next_at, now) + size / self.rate(now)
        for resource, bucket in self._buckets.items():
            bucket.take(now, self._of(resource, size))

    def answered(self, sent_at: float, now: float, size: int, in_flight: int, in_flight_size: int,
                 limits: tuple[Limit, ...] = ()) -> None:  # fmt: skip
        """``size`` was taken; ``in_flight`` requests of ``in_flight_size`` together are still under way."""
        self._probe_s, self._probe_at = _PROBE_S, 0.0
        self._taken.append((sent_at, size))
        while len(self._taken) > _LEAST_ANSWERS and self._taken[0][0] < now - 2 * _WINDOW_S:
            self._taken.popleft()
        if in_flight + 1 >= self.limit:
            step = 1.0 if self._limit < self._target else 1 / self._limit
            self._limit = min(self._most_in_flight, self._limit + step)
        for limit in limits:
            self._told(limit, now, in_flight if limit.resource == "requests" else in_flight_size)

    def refused(self, sent_at: float, now: float, retry_after_s: float | None) -> None:
        """More was asked for than the limit allows in that time."""
        if retry_after_s:
            wait_s = min(retry_after_s, _LONGEST_WAIT_S)
            # Not all at the same moment, and never before it was allowed.
            self._allowed_at = max(self._allowed_at, now + wait_s * self._random.uniform(1.0, 1.05))
        if sent_at < self._reduced_at:  # the others under way met the same limit
            return
        rate, passed = self.rate(now), self._let_through(now)
        if self._base is None:
            self._base = None if passed is None else passed * _KEEPS
        elif passed is None or now - self._refused_at < _AGAIN_S:
            self._base = rate * _STEP  # the last seconds hold what was let through before the limit was met
        else:  # what a few seconds show is rough: it moves the rate by a step at most
            self._base = min(rate * _KEEPS, max(rate * _STEP, passed * _KEEPS))
        self._refused_at = self._reduced_at = now
        if self._base is None:
            self._space_out(now)

    def overloaded(self, sent_at: float, now: float) -> None:
        """The service had too much to do."""
        if sent_at >= self._reduced_at:
            self._limit = self._target = max(1.0, self._limit / 2)
            self._reduced_at = now
        if self.limit == 1:
            self._space_out(now)

    def silence(self, now: float) -> None:
        """Nobody answered."""
        self._target = max(self._target if self._limit == 1 else 1.0, self._limit)
        self._limit, self._reduced_at = 1.0, now
        self._space_out(now)

    def _let_through(self, now: float) -> float | None:
        """Tokens a second that were sent and answered in the last seconds, or as far back as a few answers go."""
        if len(self._taken) < _LEAST_ANSWERS:
            return None
        begin = min(now - _WINDOW_S, self._taken[-_LEAST_ANSWERS][0])
        begin = max(begin, self._taken[0][0])
        return sum(size for at, size in self._taken if at >= begin) / max(now - begin, _LEAST_WINDOW_S)

    def _told(self, limit: Limit, now: float, under_way: float) -> None:
        if limit.most <= 0 or limit.left < 0 or limit.whole_in_s < 0:  # some services send -1 for what they do not know
            return
        known, used = self._buckets.get(limit.resource), limit.most - limit.left
        per_s = known.per_s if known else limit.most / 60
        if (
            used > 0 and limit.whole_in_s > 0
        ):  # a day's quota that is used up is for the service to say, not to wait for
            per_s = used / min(limit.whole_in_s, _LONGEST_WAIT_S)
        self._buckets[limit.resource] = _Bucket(limit.left - under_way, limit.most, per_s, now)

    def _of(self, resource: Resource, size: int) -> float:
        return 1.0 if resource == "requests" else float(size)

    def _space_out(self, now: float) -> None:
        """Decorrelated jitter (Brooker, AWS Architecture Blog, 2015)."""
        self._probe_s = min(_LONGEST_PROBE_S, self._random.uniform(_PROBE_S, self._probe_s * 3))
        self._probe_at = max(self._probe_at, now + self._probe_s)
