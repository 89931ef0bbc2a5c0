"""How many requests the index may have in hand at once, learnt from how long its answers take. Knows no request.

What answers take beyond what they take without a queue is waiting, and by Little's law that share of the requests in
flight is waiting (TCP Vegas: Brakmo and Peterson, 1995; Netflix's concurrency-limits). A short queue keeps the index
busy, a longer one only costs time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_GROW_BELOW, _SHRINK_ABOVE = 0.12, 0.22  # share of those in flight that waits
_GROW_BELOW_LEAST, _SHRINK_ABOVE_LEAST = 1.0, 1.5  # requests that wait; of a few in flight a share says little
_SLACK_S = 0.010  # of our own threads and network; no queue
_LEAST_S, _LONGEST_S = 0.1, 1.0
_LEAST_REQUESTS, _MOST_REQUESTS = 24, 240
_FEW_REQUESTS = 10
_BOUND = 2_000  # of what is kept
_LEFT_OUT = 16  # one of so many
_PROBE_S, _LONGEST_NOISY_S, _LONGEST_PROBE_S = 1.0, 4.0, 16.0
_MUCH = 0.7
_HELPS = 0.6  # half of the limit would leave half of a queue
_NEVER = (0.0, math.inf)
_FASTER, _ABOUT, _A_LITTLE, _SLOWER = 0.7, 0.85, 1.1, 1.5
_NOISY = 0.1  # relative error of what counts half
_DROPPED = 0.6


@dataclass(slots=True)
class Window:
    """Requests that entered one after the other at one limit, and what they took."""

    began: float
    entered: int = 0
    full: bool = False  # no more enter
    pressed: bool = False
    spoiled: bool = False  # by more than the limit, which says nothing about it
    seconds: list[float] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """The slowest few are not waited for: a pause of the index is no queue."""
        return self.full and len(self.seconds) >= self.entered - self.entered // _LEFT_OUT

    def took_s(self) -> tuple[float, float]:
        """The mean, and its standard error."""
        mean = sum(self.seconds) / len(self.seconds)
        return mean, math.sqrt(sum((each - mean) ** 2 for each in self.seconds)) / len(self.seconds)


class AdaptiveLimit:
    """The law, without a clock: times are given, in seconds.

    - After each window in which the limit was reached, it grows by one (by half, until the first queue) where hardly
      anything waits, and shrinks towards what would leave a short queue where much does.
    - What answers take without a queue is learnt while the limit is not reached, and otherwise by probes: for a window
      half as many are let in, seconds to a quarter of a minute apart.
    - Shrinking that does not help is a sign that there is no queue, and the index has become slower: a probe at once.
    - A request that the index dropped shrinks the limit, once for all that were under way; the first answers afterwards
      bring it back to just below where it was.
    """

    def __init__(self, *, start: int, most: int, now: float) -> None:
        self._most = float(most)
        self._limit = float(min(start, most))
        self._unhurried_s: float | None = None  # what answers take without a queue
        self._window = Window(now)
        self._steep = True
        self._shrunk_from = _NEVER  # limit and seconds before the steps down
        self._doubtful = False
        self._probing = False
        self._before_probe_s = 0.0
        self._probe_gap_s, self._probe_at = _PROBE_S, now
        self._dropped_at = now
        self._back_to = 0.0  # at once, after drops

    @property
    def allowed(self) -> int:
        """Requests that may be in flight, one at least."""
        return max(1, int(self._limit / 2) if self._probing else round(self._limit))

    def pressed(self) -> None:
        """The limit was reached."""
        self._window.pressed = True

    def entered(self, now: float, in_flight: int) -> Window | None:
        """The window that the request belongs to, if any; ``in_flight`` counts it."""
        window = self._window
        window.spoiled = window.spoiled or in_flight > self.allowed
        if window.full:
            return None
        window.entered += 1
        lasted = now - window.began
        wanted = min(_MOST_REQUESTS, max(_LEAST_REQUESTS, 3 * self.allowed))
        enough = window.entered >= (wanted if lasted < _LONGEST_S else _FEW_REQUESTS)
        window.full = (enough and lasted >= _LEAST_S) or window.entered >= _BOUND
        return window

    def answered(self, window: Window | None, now: float, seconds: float | None) -> None:
        """``seconds`` is None where the index was not asked after all."""
        if seconds is not None and self._limit < self._back_to:
            self._limit = min(self._back_to, self._limit + 1.0)  # doubles with each time that answers take
        if window is None or window is not self._window:
            return
        if seconds is None:
            window.entered -= 1
        else:
            window.seconds.append(seconds)
        if window.complete:
            if window.seconds and not window.spoiled:
                self._steer(window, now)
            self._window = Window(now)

    def dropped(self, entered_at: float, now: float) -> None:
        """The index refused, or was given up. One for all that were under way."""
        if entered_at < self._dropped_at:
            return
        self._back_to = max(self._back_to, self._limit * _DROPPED)
        self._limit = max(1.0, self._limit * _DROPPED)
        self._dropped_at, self._window = now, Window(now)
        self._probing, self._steep = False, True

    def _steer(self, window: Window, now: float) -> None:
        took_s, error_s = window.took_s()
        if self._probing:
            self._learn(took_s, error_s, now)
            return
        if self._unhurried_s is None:
            self._unhurried_s = took_s
        elif took_s + 2 * error_s < _FASTER * self._unhurried_s:
            self._unhurried_s = (self._unhurried_s + took_s) / 2
        elif not window.pressed:
            self._unhurried_s += 0.2 * (took_s - self._unhurried_s)
        if window.pressed:
            self._change(took_s, error_s, self._unhurried_s + _SLACK_S)
            if self._doubtful or now >= self._probe_at:
                self._probing, self._before_probe_s = True, took_s

    def _change(self, took_s: float, error_s: float, unhurried_s: float) -> None:
        shrink_above = max(_SHRINK_ABOVE, min(0.9, _SHRINK_ABOVE_LEAST / self._limit))
        grow_below = max(_GROW_BELOW, min(0.6, _GROW_BELOW_LEAST / self._limit))
        if unhurried_s < (1.0 - shrink_above) * (took_s - error_s):
            wanted = unhurried_s / took_s / (1.0 - shrink_above)
            limit_before, took_before_s = self._shrunk_from
            if self._limit <= _MUCH * limit_before:
                self._doubtful = 1.0 - took_s / took_before_s < _HELPS * (1.0 - self._limit / limit_before)
            if self._shrunk_from == _NEVER or self._limit <= _MUCH * limit_before:
                self._shrunk_from = self._limit, took_s
            self._steep = False
            self._limit = self._back_to = max(1.0, self._limit * max(0.5, wanted))
            return
        self._shrunk_from = _NEVER
        self._steep = self._steep and took_s - error_s < _A_LITTLE * (unhurried_s - _SLACK_S)
        if unhurried_s > (1.0 - grow_below) * took_s:
            self._limit = min(self._most, self._limit * 1.5 if self._steep else self._limit + 1.0)

    def _learn(self, took_s: float, error_s: float, now: float) -> None:
        """From half of the requests, among which nothing waits."""
        assert self._unhurried_s is not None
        slower = took_s - 2 * error_s > _SLOWER * self._unhurried_s
        weight = 1.0 if slower else 1.0 / (1.0 + (error_s / took_s / _NOISY) ** 2)
        # Half of the requests take as long as all did: so there was no queue before either.
        mistaken = took_s > _ABOUT * self._before_probe_s and took_s > self._unhurried_s / _ABOUT
        usual = not (slower or mistaken) and took_s + error_s > _ABOUT * self._unhurried_s
        self._unhurried_s += max(weight, 0.5 if mistaken else 0.0) * (took_s - self._unhurried_s)
        self._steep = self._steep or slower
        longest_s = _LONGEST_PROBE_S if error_s < 2 * _NOISY * took_s else _LONGEST_NOISY_S
        self._probe_gap_s = min(longest_s, self._probe_gap_s * 2) if usual else _PROBE_S
        self._probing, self._probe_at, self._doubtful = False, now + self._probe_gap_s, False
        self._shrunk_from = _NEVER
