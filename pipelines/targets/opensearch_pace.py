"""How much to send to an index at once, learnt from its answers alone. Knows no requests, documents or clients.

Every worker of a run has a pace of its own and sees the others only as the node's latency and refusals: additive
increase and multiplicative decrease lead all of them to a fair share without a coordinator (Chiu and Jain, 1989).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

MOST_IN_FLIGHT = 8
LEAST_BYTES = 1 << 16
_FIRST_IN_FLIGHT = 2  # one is sent while the node works on the other
_FIRST_BYTES = 2 << 20
_BODIES_AT_MOST = 4  # of the largest size; more in flight are smaller, so that memory stays bounded
_WINDOW_S, _WINDOW_ANSWERS = 1.0, 6
_PAYS = 1.05  # what one more in flight must bring to be kept
_SHORT_S, _LONG_S = 0.5, 2.0  # answers between them say that the size is right
_LEAST_WORTH_IT = 1 << 19  # smaller ones answer sooner and cost more a row
_HOLD_S, _LONGEST_HOLD_S = 30.0, 300.0
_PROBE_S, _LONGEST_PROBE_S = 0.1, 4.0
_BUDGET, _EARNED = 30.0, 0.5  # retries that may be spent at once, and what each success earns


@dataclass(slots=True)
class _Window:
    """What was seen at one setting, since ``began``."""

    began: float
    size: int = 0
    answers: int = 0
    full: int = 0
    latency_s: float = 0.0

    def rate(self, now: float) -> float:
        return self.size / max(now - self.began, 1e-6)


class Pace:
    """The law, without threads or a clock: times are given, in seconds.

    - One more in flight is tried after a window in which the limit was what held us back; it is kept if the rate of
      bytes taken grew by ``_PAYS``, otherwise given back, and not tried again for a while that grows.
    - A refusal for overload halves the limit, once for all requests that were under way, and it grows again one a
      window to just below where it was.
    - While nothing is answered, one request at a time probes, at intervals that grow to a few seconds; with the first
      answer the limit doubles its way back.
    - Bodies grow while answers are quick, and halve when they take long or are too large for somebody on the way.
    - Sending again is paid from a budget that successes fill; without it, one probes at a time as well.
    """

    def __init__(self, most_bytes: int, *, most_in_flight: int = MOST_IN_FLIGHT, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._most_in_flight = most_in_flight
        self._most_bytes = most_bytes
        self._ceiling_bytes = float(most_bytes)  # learnt from refusals
        self._bytes = float(min(most_bytes, _FIRST_BYTES))
        self._limit = self._target = min(_FIRST_IN_FLIGHT, most_in_flight)  # target: what it was before a refusal
        self._window: _Window | None = None
        self._rate_before: float | None = None  # of the window before one more was tried
        self._hold_s, self._hold_until = _HOLD_S, 0.0
        self._reduced_at = self._smaller_at = -math.inf
        self._probe_s, self._not_before, self._silent = _PROBE_S, 0.0, False
        self._budget = _BUDGET

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return 1 if self._budget < 1 else self._limit

    @property
    def body_bytes(self) -> int:
        return int(
            max(min(LEAST_BYTES, self._most_bytes), min(self._bytes, self._most_bytes * _BODIES_AT_MOST / self._limit))
        )

    def wait_s(self, now: float, in_flight: int) -> float:
        """Seconds until a request may be sent; infinite while others must end first."""
        if in_flight >= self.limit:
            return math.inf
        return max(0.0, self._not_before - now)

    def answered(self, sent_at: float, now: float, size: int, *, full: bool) -> None:
        """``size`` bytes were taken. ``full``: as many were in flight as the limit allows."""
        self._probe_s, self._not_before = _PROBE_S, 0.0
        self._budget = min(_BUDGET, self._budget + _EARNED)
        if self._silent:
            self._limit = min(self._target, self._limit * 2)
            self._silent = self._limit < self._target
        if self._window is None:  # from answer to answer: what is under way at both ends cancels out
            self._window = _Window(now)
            return
        window = self._window
        window.size += size
        window.answers += 1
        window.full += full
        window.latency_s += now - sent_at
        if window.answers >= max(_WINDOW_ANSWERS, 2 * self._limit) and now - window.began >= _WINDOW_S:
            self._window = None
            self._steer(window, now)

    def idled(self, seconds: float) -> None:
        """Nothing was in flight for so long, which is nobody's rate."""
        if self._window is not None:
            self._window.began += seconds

    def retried(self) -> None:
        self._budget = max(0.0, self._budget - 1)

    def overloaded(self, sent_at: float, now: float) -> None:
        """The node refused some or all of a request because it had too much to do."""
        if sent_at >= self._reduced_at:  # the others under way met the same overload
            self._target, self._reduced_at = max(1, self._limit - 1), now
            if self._limit == 1:
                self._bytes = max(LEAST_BYTES, self._bytes / 2)
                self._smaller_at = now
            self._limit = max(1, self._limit // 2)
            self._hold(now)
        if self._limit == 1:
            self._space_out(now)
        self._window = None

    def silence(self, now: float) -> None:
        """No answer came, or one from somebody who is not the node."""
        if not self._silent:
            self._target = max(self._target, self._limit)
        self._silent, self._limit = True, 1
        self._reduced_at, self._window, self._rate_before = now, None, None
        self._space_out(now)

    def too_large(self, now: float, size: int, *, for_good: bool) -> None:
        """A body of ``size`` bytes was more than somebody could hold; ``for_good`` where that is a fixed bound."""
        if for_good:
            self._ceiling_bytes = max(LEAST_BYTES, min(self._ceiling_bytes, size // 2))
        self._bytes = max(LEAST_BYTES, min(self._bytes, self._ceiling_bytes, size // 2))
        self._smaller_at, self._window = now, None

    def _steer(self, window: _Window, now: float) -> None:
        latency_s = window.latency_s / window.answers
        if latency_s > _LONG_S and self._bytes > _LEAST_WORTH_IT:
            self._bytes = max(_LEAST_WORTH_IT, self._bytes / 2)
            return
        if self._rate_before is not None:
            self._judge(window.rate(now), now)
        elif latency_s < _SHORT_S and self._bytes < self._ceiling_bytes and now - self._smaller_at > _HOLD_S:
            self._bytes = min(self._ceiling_bytes, self._bytes * 2)
            return
        if self._limit < self._target:
            self._limit += 1
        elif window.full * 2 >= window.answers and now >= self._hold_until and self._limit < self._most_in_flight:
            self._rate_before = window.rate(now)
            self._limit = self._target = self._limit + 1

    def _judge(self, rate: float, now: float) -> None:
        """Whether the step that was tried has paid."""
        assert self._rate_before is not None
        if rate >= self._rate_before * _PAYS:
            self._hold_s = _HOLD_S
        else:
            self._limit = self._target = max(1, self._limit - 1)
            self._hold(now)
        self._rate_before = None

    def _hold(self, now: float) -> None:
        self._rate_before = None
        self._hold_until = now + self._hold_s * self._random.uniform(0.8, 1.2)  # workers must not try in step
        self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * 2)

    def _space_out(self, now: float) -> None:
        """Decorrelated jitter (Brooker, AWS Architecture Blog, 2015)."""
        self._probe_s = min(_LONGEST_PROBE_S, self._random.uniform(_PROBE_S, self._probe_s * 3))
        self._not_before = now + self._probe_s
