"""Time as a value: wall clock, a clock that only goes forward, and sleep. Knows not who waits for what."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def time(self) -> float:
        """Seconds since 1970, by this machine's clock: comparable with other machines' within a skew only."""

    def monotonic(self) -> float:
        """Seconds since some moment; comparable within this process only."""

    def sleep(self, seconds: float) -> None: ...


class _SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM: Clock = _SystemClock()
