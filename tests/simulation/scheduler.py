"""Simulated time, and who runs when. Everything happens in one thread, in an order that a seed decides.

Knows processes and their machines; knows no store and no protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

_EPOCH_S = 1_760_000_000.0  # when simulated time begins by a clock that goes right


class Killed(BaseException):
    """Unwinds what is left of a dead process; none of its requests reaches the store."""


class Violation(BaseException):
    """A broken invariant: its name, and what was seen. It ends the simulation."""

    def __init__(self, name: str, seen: str) -> None:
        super().__init__(f"{name}: {seen}")
        self.name = name


class Host:
    """A machine: its clock is ahead of true time by ``offset_s`` and ``drift`` seconds a second."""

    def __init__(self, name: str, offset_s: float = 0.0, drift: float = 0.0) -> None:
        self.name = name
        self.offset_s = offset_s
        self.rate = 1.0 + drift
        self.cut_off_until_s = 0.0  # no request from here is answered

    def true_time(self, by_clock_s: float) -> float:
        """The simulated time when this machine's clock showed ``by_clock_s``."""
        return (by_clock_s - _EPOCH_S - self.offset_s) / self.rate


class Process:
    """A process of an operating system: its threads die and pause together. It is the Clock that they see."""

    def __init__(self, scheduler: Scheduler, host: Host, name: str, invocation: str) -> None:
        self.scheduler = scheduler
        self.host = host
        self.name = name
        self.invocation = invocation
        self.pid = next(scheduler.pids)
        self.began_s = scheduler.now
        self.died_s: float | None = None
        self.paused_until_s = 0.0
        self.faults_in_a_row = 0
        self.on_death: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return self.name

    @property
    def dead(self) -> bool:
        return self.died_s is not None

    def kill(self) -> None:
        if self.died_s is None:
            self.died_s = self.scheduler.now
            self.scheduler.say(self, "dies")
            self.on_death()

    def pause(self, seconds: float) -> None:
        """Nothing of it runs for so long, as if its machine were frozen."""
        self.scheduler.say(self, f"is frozen for {seconds:.0f} s")
        self.scheduler.freezes.append((self, seconds))
        self.paused_until_s = self.scheduler.now + seconds

    def time(self) -> float:
        return _EPOCH_S + self.host.offset_s + self.scheduler.now * self.host.rate

    def monotonic(self) -> float:
        return self.scheduler.now * self.host.rate

    def sleep(self, seconds: float) -> None:
        self.scheduler.sleep(self, seconds / self.host.rate)

    def new_lock(self) -> _Lock:
        return _Lock(self)


class _Lock:
    """Of simulated threads: who waits for it lets the others run."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._process.sleep(0.01)
        self._held = True

    def __exit__(self, *error: object) -> None:
        self._held = False


_TICK_S = 1e-6  # time goes on, however short a sleep: a smaller step would be lost in a float


class Scheduler:
    """Runs what is due, one after the other. ``say`` tells who does what, for a trace."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.now = 0.0
        self.pids = count(100)
        self._say = say
        self._hub = getcurrent()
        self._numbers = count()
        self._due: list[tuple[float, int, Process | None, Callable[[], Any]]] = []
        self._tasks: list[tuple[Process, greenlet]] = []
        self.freezes: list[tuple[Process, float]] = []
        self._violation: Violation | None = None

    def say(self, process: Process | str, what: str) -> None:
        if self._say:
            self._say(f"{self.now:9.3f}  {process!s:<12}  {what}")

    def broken(self, violation: Violation) -> Violation:
        """Nothing happens after the first violation."""
        self._violation = self._violation or violation
        return self._violation

    def after(self, seconds: float, call: Callable[[], Any]) -> None:
        """Something of the world, no process's doing."""
        heappush(self._due, (self.now + seconds, next(self._numbers), None, call))

    def start(self, process: Process, call: Callable[[], Any], after_s: float = 0.0) -> None:
        """A thread of the process."""
        task = greenlet(call, parent=self._hub)
        self._tasks.append((process, task))
        heappush(self._due, (self.now + after_s, next(self._numbers), process, task.switch))

    def sleep(self, process: Process, seconds: float) -> None:
        """The running thread of ``process`` goes on after so long, unless the process is dead by then."""
        if process.died_s is None and self._violation is None:
            due_s = self.now + max(seconds, _TICK_S)
            heappush(self._due, (due_s, next(self._numbers), process, getcurrent().switch))
            self._hub.switch()
        if process.died_s is not None or self._violation is not None:
            raise Killed

    def run(self, until_s: float, over: Callable[[], bool] = lambda: False) -> None:
        """Until simulated time ``until_s``, until it is ``over``, or until nothing is left to happen."""
        while self._due and not over():
            due_s, number, process, call = self._due[0]
            if due_s > until_s:
                break
            heappop(self._due)
            self.now = max(self.now, due_s)
            if process is not None:
                if process.died_s is not None:
                    continue
                if process.paused_until_s > due_s:
                    heappush(self._due, (process.paused_until_s, number, process, call))
                    continue
            with suppress(Killed):
                call()
            if self._violation is not None:
                raise self._violation

    def end(self) -> None:
        """Every thread that has not ended is unwound, as part of a dead process."""
        for process, task in self._tasks:
            if task and not task.dead:
                process.died_s = process.died_s or self.now
                try:
                    task.throw(Killed)
                except Killed:
                    continue
        self._tasks.clear()
