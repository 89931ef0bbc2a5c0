"""Asks an index that does not answer no more, until one request in a while finds that it does. Knows no index.

Used from one event loop, so there are no locks.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from jobs.service.refusals import CircuitOpen

State = Literal["closed", "half_open", "open"]

_IN_A_ROW = 5
_WINDOW, _SHARE = 20, 0.5  # of the latest answers
_SILENT = 5  # requests that wait at once
_PROBE_S = 1.0


class Breaker:
    """``before`` each request to the index, and ``after`` it, whatever becomes of it.

    Opens after failures in a row, after too large a share of failures, and where some requests have waited ``silence_s``
    and none has been answered meanwhile: a hanging index is known before the first deadline. Then it lets one request
    through about once a second, and the first answer closes it.
    """

    def __init__(
        self, silence_s: float = 1.0, clock: Callable[[], float] = time.monotonic, *, seed: int | None = None
    ) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._random = random.Random(seed)
        self._state: State = "closed"
        self._latest: deque[bool] = deque(maxlen=_WINDOW)
        self._in_a_row = 0
        self._waiting = 0
        self._silent_since = 0.0
        self._silence = False  # is what it was opened for
        self._probe_at = 0.0

    @property
    def state(self) -> State:
        """``open``: nothing is asked yet; ``half_open``: one request about once a second."""
        self._look(self._clock())
        return self._state

    @property
    def is_open(self) -> bool:
        return self.state != "closed"

    def before(self) -> None:
        """Raises CircuitOpen, at once, while the index is not to be asked."""
        now = self._clock()
        self._look(now)
        if self._state != "closed":
            if now < self._probe_at:
                raise CircuitOpen(max(1.0, self._probe_at - now))
            self._state = "half_open"
            self._probe_later(now)
        self._waiting += 1
        if self._waiting == _SILENT:
            self._silent_since = now

    def after(self, ok: bool | None) -> None:
        """
        Args:
            ok: the index answered, if only to say that the question is wrong or that it has too much to do. False: an
                error of its own, no connection, or no answer in time. None: it was not asked after all.
        """
        self._waiting -= 1
        if ok is None:
            return
        now = self._clock()
        if ok:
            self._in_a_row, self._silent_since = 0, now
        if self._state != "closed":
            # Before the first probe it is an answer to one that was under way, which refutes a silence alone.
            if ok and (self._silence or self._state == "half_open"):
                self._state = "closed"
                self._latest.clear()
            return
        self._latest.append(ok)
        if not ok:
            self._in_a_row += 1
            many = len(self._latest) == _WINDOW and self._latest.count(False) >= _SHARE * _WINDOW
            if many or self._in_a_row >= _IN_A_ROW:
                self._open(now, silence=False)

    def _look(self, now: float) -> None:
        silent = self._waiting >= _SILENT and now - self._silent_since > self._silence_s
        if self._state == "closed" and silent:
            self._open(now, silence=True)

    def _open(self, now: float, *, silence: bool) -> None:
        self._state, self._silence, self._in_a_row = "open", silence, 0
        self._probe_later(now)

    def _probe_later(self, now: float) -> None:
        self._probe_at = now + _PROBE_S * self._random.uniform(0.8, 1.2)  # several services must not ask in step
