"""Waiting between tries: decorrelated jitter with a deadline. Knows not what is tried."""

from __future__ import annotations

import random
import threading

from pipelines.clock import SYSTEM, Clock

BASE_S = 0.1
CAP_S = 5.0


class Backoff:
    """Brooker's "decorrelated jitter" (AWS Architecture Blog, 2015): each wait is drawn between the base and
    three times the last one, up to a cap. The deadline runs from the first failure since the last success."""

    def __init__(self, deadline_s: float, stop: threading.Event | None = None, clock: Clock = SYSTEM, *,
                 cap_s: float = CAP_S) -> None:  # fmt: skip
        self.deadline_s = deadline_s
        self._cap_s = cap_s
        self._stop = stop
        self._clock = clock
        self._sleep_s = BASE_S
        self._until: float | None = None

    @property
    def failing_s(self) -> float:
        """Since the first failure after the last success."""
        return self._clock.monotonic() - (self._until - self.deadline_s) if self._until else 0.0

    def wait(self) -> bool:
        """Sleep before the next try. False, at once, when the deadline would pass or somebody said stop."""
        now = self._clock.monotonic()
        self._until = self._until or now + self.deadline_s
        if now + self._sleep_s > self._until or self._stopped():
            return False
        self._sleep_s = min(self._cap_s, random.uniform(BASE_S, self._sleep_s * 3))
        return True

    def _stopped(self) -> bool:
        if self._stop is not None:
            return self._stop.wait(self._sleep_s)
        self._clock.sleep(self._sleep_s)
        return False

    def reset(self) -> None:
        """Something succeeded: the next failure starts from the beginning."""
        self._sleep_s, self._until = BASE_S, None
