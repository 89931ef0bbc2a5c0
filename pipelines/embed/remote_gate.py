"""A remote pace shared by the threads of one worker: lets them send one by one, and tells the pace what they met.

Knows threads and a clock; knows no requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.clock import SYSTEM, Clock
from pipelines.embed.remote_failures import Failure, is_overload, is_rate_limit, is_silence
from pipelines.embed.remote_pace import Limit, RemotePace

_LOOK_S = 0.2  # for the others' word to stop


class Stopped(Exception):  # a word to the other threads, no error
    pass


class RemoteGate:
    """Who has entered may send one request, and leaves after it."""

    def __init__(self, pace: RemotePace, clock: Clock = SYSTEM) -> None:
        self._pace = pace
        self._clock = clock
        self._turn = threading.Condition()
        self._in_flight = self._size = 0
        self._answered_at = clock.monotonic()

    @property
    def answered_at(self) -> float:
        """When anybody's request last brought vectors; at first, when this began."""
        return self._answered_at

    @contextmanager
    def entered(self, size: int, stop: threading.Event) -> Iterator[Passage]:
        """Wait for a turn, and hold it while the block sends one request of ``size`` tokens. Raises Stopped when
        ``stop`` is set."""
        with self._turn:
            while (wait_s := self._pace.wait_s(self._clock.monotonic(), self._in_flight, size)) and not stop.is_set():
                self._turn.wait(min(wait_s, _LOOK_S))
            if stop.is_set():
                raise Stopped
            sent_at = self._clock.monotonic()
            self._pace.sent(sent_at, size)
            self._in_flight, self._size = self._in_flight + 1, self._size + size
        passage = Passage(sent_at)
        try:
            yield passage
        finally:
            with self._turn:
                self._in_flight, self._size = self._in_flight - 1, self._size - size
                self._tell(passage, size)
                self._turn.notify_all()

    def _tell(self, passage: Passage, size: int) -> None:
        now, met = self._clock.monotonic(), passage.met
        if isinstance(met, tuple):
            self._answered_at = now
            self._pace.answered(passage.sent_at, now, size, self._in_flight, self._size, met)
        elif met is not None and is_rate_limit(met):
            self._pace.refused(passage.sent_at, now, met.retry_after_s)
        elif met is not None and is_silence(met):
            self._pace.silence(now)
        elif met is not None and is_overload(met):
            self._pace.overloaded(passage.sent_at, now)


class Passage:
    """One request under way. ``met``: the limits that its answer told, or its failure; None: neither yet."""

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.met: tuple[Limit, ...] | Failure | None = None
