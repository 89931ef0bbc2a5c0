"""A pace shared by the threads of one worker: lets them send one by one, and tells the pace what they met.

Knows threads and a clock; knows no requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.clock import SYSTEM, Clock
from pipelines.targets.opensearch_pace import Pace

_LOOK_S = 0.2  # for the others' word to stop


class Gate:
    """Who has entered may send one request, and leaves after it."""

    def __init__(self, pace: Pace, clock: Clock = SYSTEM) -> None:
        self._pace = pace
        self._clock = clock
        self._turn = threading.Condition()
        self._in_flight = 0
        self._left_at = 0.0  # by the last one, so that nothing is in flight since

    @property
    def limit(self) -> int:
        with self._turn:
            return self._pace.limit

    @property
    def body_bytes(self) -> int:
        return self._pace.body_bytes

    @contextmanager
    def entered(self, stop: threading.Event) -> Iterator[Passage]:
        """Wait for a turn, and hold it while the block sends one request. Raises Stopped when ``stop`` is set."""
        with self._turn:
            while (wait_s := self._pace.wait_s(self._clock.monotonic(), self._in_flight)) and not stop.is_set():
                self._turn.wait(min(wait_s, _LOOK_S))
            if stop.is_set():
                raise Stopped
            if not self._in_flight:
                self._pace.idled(self._clock.monotonic() - self._left_at)
            self._in_flight += 1
            full = self._in_flight >= self._pace.limit
        try:
            yield Passage(self._pace, self._turn, self._clock, full)
        finally:
            with self._turn:
                self._in_flight -= 1
                self._left_at = self._clock.monotonic()
                self._turn.notify_all()


class Stopped(Exception):  # a word to the other threads, no error
    pass


class Passage:
    """One request under way; tells the pace what it met."""

    def __init__(self, pace: Pace, turn: threading.Condition, clock: Clock, full: bool) -> None:
        self._pace, self._turn, self._clock, self._full = pace, turn, clock, full
        self._sent_at = clock.monotonic()

    def answered(self, size: int) -> None:
        with self._turn:
            self._pace.answered(self._sent_at, self._clock.monotonic(), size, full=self._full)

    def overloaded(self) -> None:
        with self._turn:
            self._pace.overloaded(self._sent_at, self._clock.monotonic())

    def silence(self) -> None:
        with self._turn:
            self._pace.silence(self._clock.monotonic())

    def too_large(self, size: int, *, for_good: bool) -> None:
        with self._turn:
            self._pace.too_large(self._clock.monotonic(), size, for_good=for_good)

    def retried(self) -> None:
        with self._turn:
            self._pace.retried()
