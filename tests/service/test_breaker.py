"""The breaker opens before callers have waited long for an index that is away, and closes soon after it is back."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import pytest

from jobs.service.breaker import Breaker
from jobs.service.refusals import CircuitOpen

DEADLINE_S = 2.0


class Index:
    """Answers ``asked`` requests a second in virtual time. ``away`` from and until: how it is away, ``hangs`` or dead; one
    that hung goes on with what it had."""

    def __init__(self, away: tuple[float, float], *, hangs: bool, most_waiting: int = 10) -> None:
        self.now = 0.0
        self.breaker = Breaker(DEADLINE_S / 2, lambda: self.now, seed=1)
        self._away, self._hangs, self._most_waiting = away, hangs, most_waiting
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting = 0
        self.states: list[tuple[float, str]] = []
        self.refused: list[float] = []
        self.sent: list[float] = []

    def run(self, seconds: float, *, per_s: float = 50.0) -> Index:
        for number in range(int(seconds * per_s)):
            self._at(number / per_s, self._ask)
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do()
            if not self.states or self.states[-1][1] != self.breaker.state:
                self.states.append((self.now, self.breaker.state))
        return self

    def when(self, state: str, after: float = 0.0) -> float:
        return next((when for when, found in self.states if found == state and when >= after), math.inf)

    def _at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def _ask(self) -> None:
        if self._waiting == self._most_waiting:  # refused by the admission
            return
        try:
            self.breaker.before()
        except CircuitOpen as error:
            self.refused.append(error.retry_after_s or 0.0)
            return
        self.sent.append(self.now)
        self._waiting += 1
        begin, end = self._away
        if not begin <= self.now < end:
            self._at(self.now + 0.05, lambda: self._end(True))
        elif not self._hangs:
            self._at(self.now + 0.001, lambda: self._end(False))
        else:
            back = end + 0.05
            self._at(min(back, self.now + DEADLINE_S), lambda ok=back < self.now + DEADLINE_S: self._end(ok))  # type: ignore[misc]

    def _end(self, ok: bool) -> None:
        self._waiting -= 1
        self.breaker.after(ok)


@pytest.mark.parametrize("hangs", [True, False])
@pytest.mark.parametrize("per_s", [10.0, 50.0, 800.0])
def test_it_opens_and_closes_in_time(hangs: bool, per_s: float) -> None:
    index = Index((10.0, 20.0), hangs=hangs).run(30, per_s=per_s)
    assert 10 <= index.when("open") <= 12
    assert 20 <= index.when("closed", after=20) <= 22
    assert [state for _, state in index.states] == ["closed", "open", "half_open", "closed"]
    assert min(index.refused) >= 1  # whole seconds in a header


def test_open_it_sends_about_one_request_a_second() -> None:
    index = Index((10.0, 40.0), hangs=False).run(41, per_s=800)
    sent = [when for when in index.sent if 12 <= when < 40]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert 0.8 <= min(gaps) <= max(gaps) < 1.21
    assert max(gaps) - min(gaps) > 0.1  # not in step with others


def test_an_index_that_answers_is_always_asked() -> None:
    index = Index((math.inf, math.inf), hangs=False).run(20, per_s=800)
    assert not index.refused
    assert index.states == [(0.0, "closed")]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_failures_now_and_then_leave_it_closed() -> None:
    breaker = Breaker(clock=Clock())
    for number in range(1000):
        breaker.before()
        breaker.after(number % 3 != 0)
    assert breaker.state == "closed"


def test_every_second_failure_opens_it() -> None:
    breaker = Breaker(clock=Clock())
    for number in range(20):
        breaker.before()
        breaker.after(number % 2 == 0)
    with pytest.raises(CircuitOpen):
        breaker.before()


def test_a_few_slow_answers_are_no_silence() -> None:
    clock = Clock()
    breaker = Breaker(1.0, clock)
    for _ in range(4):  # fewer than would be a sign
        breaker.before()
    clock.now = 1.9
    assert breaker.state == "closed"
    breaker.before()  # the fifth has just come
    clock.now = 2.0
    assert breaker.state == "closed"
    clock.now = 3.0
    assert breaker.state == "open"


def test_an_answer_to_an_earlier_request_ends_a_silence_alone() -> None:
    clock = Clock()
    silent, failing = Breaker(1.0, clock), Breaker(1.0, clock)
    for breaker in (silent, failing):
        for _ in range(8):
            breaker.before()
    for _ in range(5):
        failing.after(False)
    clock.now = 1.5
    assert (silent.state, failing.state) == ("open", "open")
    silent.after(True)
    failing.after(True)
    assert (silent.state, failing.state) == ("closed", "open")


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    clock = Clock()
    breaker = Breaker(1.0, clock)
    for _ in range(5):
        breaker.before()
        breaker.after(False)
    clock.now = 1.3
    breaker.before()
    with pytest.raises(CircuitOpen):
        breaker.before()
    clock.now = 2.6
    breaker.before()
    breaker.after(True)
    assert breaker.state == "closed"


def test_what_was_not_asked_says_nothing() -> None:
    breaker = Breaker(clock=Clock())
    for _ in range(100):
        breaker.before()
        breaker.after(None)
    assert breaker.state == "closed"
