"""The workers of one run: who has which partition in hand, what becomes of those that die, stop or cannot start.

Knows what every engine with workers of its own promises (the Engine seam); knows not what a worker is: a process here
or an actor elsewhere, behind ``Worker`` and ``Staff``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Generic, Protocol, TypeVar

from jobs.engines.engine import Beat, Done, EngineSettings, Failed, Left, Outcome
from jobs.engines.pending import ADVICE, DIED, Pending
from jobs.engines.stop import StopSignals, interrupted
from jobs.engines.worker import Answer, Fault, InOtherHands, Ready, Receipt, Stop, Stopped
from pipelines.partition import Partition

log = logging.getLogger(__name__)


class Worker(Protocol):
    """One worker, seen from the driver. ``partition`` is what it has in hand; the crew sets both."""

    ready: bool
    partition: Partition | None

    def send(self, message: Partition | Stop | None) -> None:
        """None: end, after what is in hand. A worker that is gone takes anything."""

    def recv(self) -> Answer:
        """The next answer. Raises EOFError or OSError once it is gone."""

    def kill(self) -> None:
        """End it now, whatever it is doing. Called by signal handlers, too."""

    def end(self) -> str:
        """Wait for its end, by force after a while, and say what it was."""


W = TypeVar("W", bound=Worker)


class Staff(Protocol[W]):
    """Where workers come from."""

    def hire(self) -> W:
        """A new worker, which is not ready yet."""

    def wait(self, workers: Sequence[W], wake: Connection, timeout_s: float | None) -> list[W]:
        """Those that have an answer or are gone, at the latest after ``timeout_s`` or when ``wake`` is readable."""


class Crew(Generic[W]):
    def __init__(self, staff: Staff[W], pending: Pending, count: int, settings: EngineSettings,
                 on_beat: Callable[[Beat], None], leave_after_s: float | None = None) -> None:  # fmt: skip
        self._staff = staff
        self._pending = pending
        self._ended = 0
        self._count = count  # workers wanted; one less for each whose Work could not be built
        self._settings = settings
        self._on_beat = on_beat
        self._leave_after_s = leave_after_s
        self._idle_since: float | None = None
        self._workers: list[W] = []
        self._stillborn = 0  # workers that died before they were ready, since the last that was

    def outcomes(self, stop: StopSignals) -> Generator[Outcome]:
        while (self._pending or self._busy()) and not stop.requested:
            self._hand_out()
            if self._idle_too_long():
                yield from self._pending.leave()
                return
            yield from self._listen(stop, timeout_s=self._pending.wait_s)
        if stop.requested:
            yield from self._finish_parts(stop)
            raise interrupted(self._ended, self._pending.total, stop.notice)

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def disband(self) -> None:
        """End every worker: those at rest are asked to, the others killed."""
        for worker in self._workers:
            if worker.ready and worker.partition is None:
                worker.send(None)
            else:
                worker.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _busy(self) -> list[W]:
        return [worker for worker in self._workers if worker.partition is not None]

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers if worker.partition is None]
        for _ in range(min(self._count - len(self._workers), self._pending.ready - len(idle))):
            self._workers.append(self._staff.hire())
        for worker in idle:
            if worker.ready and self._pending.ready:
                worker.partition = self._pending.take()
                worker.send(worker.partition)

    def _idle_too_long(self) -> bool:
        """Whether all that is left has been in other hands, at every asking, for ``leave_after_s``."""
        if self._leave_after_s is None or self._idle_since is None or self._busy() or self._pending.ready:
            return False
        return time.monotonic() - self._idle_since > self._leave_after_s

    def _finish_parts(self, stop: StopSignals) -> Generator[Outcome]:
        """Let busy workers finish the part in hand, ``grace_s`` at most. Nothing is started or retried."""
        self._pending.clear()
        grace_s = stop.grace_s(self._settings.grace_s)
        log.warning("stopping: %d workers finish the part in hand; a second signal kills them", len(self._busy()))
        for worker in self._busy():
            worker.send(Stop(grace_s))
        deadline = time.monotonic() + grace_s + _ABANDON_S
        while self._busy() and (left_s := deadline - time.monotonic()) > 0:
            yield from self._listen(stop, timeout_s=left_s)

    def _listen(self, stop: StopSignals, timeout_s: float | None) -> Generator[Outcome]:
        talking = self._staff.wait(self._workers, stop.wake, timeout_s)
        if stop.wake.poll():
            stop.drain()
        for worker in talking:
            try:
                answer = worker.recv()
            except (EOFError, OSError):
                yield from self._replace(worker, stop)
                continue
            if isinstance(answer, Beat):
                self._on_beat(answer)
            elif isinstance(answer, Ready):
                worker.ready, self._stillborn = True, 0
            elif isinstance(answer, Stopped):
                self._take_back(worker)
            elif isinstance(answer, InOtherHands):
                yield from self._hold(worker, answer)
            elif worker.partition is None:
                yield from self._do_without(worker, answer)
            else:
                yield self._outcome(worker, answer)

    def _outcome(self, worker: W, answer: Receipt | Fault) -> Done | Failed:
        partition, worker.partition = worker.partition, None
        assert partition is not None
        self._ended += 1
        self._idle_since = None
        if isinstance(answer, Receipt):
            return Done(partition, answer.receipt)
        return self._pending.failed(partition, answer.cause, answer.message, answer.exit_code)

    def _hold(self, worker: W, answer: InOtherHands) -> Iterator[Left]:
        partition, worker.partition = worker.partition, None
        assert partition is not None
        if left := self._pending.hold(partition, answer.retry_after_s, answer.message):
            yield left
        else:
            self._idle_since = self._idle_since or time.monotonic()

    def _take_back(self, worker: W) -> None:
        """It stopped as it was told, by us or by its host that goes away: no attempt is counted."""
        partition, _ = worker.partition, self._part_with(worker)
        if partition is not None:
            self._pending.put_back(partition)

    def _replace(self, worker: W, stop: StopSignals) -> Iterator[Failed]:
        """A worker is gone: its partition is next in line again, unless it was its last attempt."""
        partition, end = worker.partition, self._part_with(worker)
        if stop.requested:
            return
        if partition is None:
            if not worker.ready:
                yield from self._count_stillborn(end)
        elif failed := self._pending.died(partition, end):
            self._ended += 1
            yield failed

    def _count_stillborn(self, end: str) -> Iterator[Failed]:
        self._stillborn += 1
        log.warning("a worker died before it was ready (%s)", end)
        if self._stillborn >= self._settings.max_attempts * self._count:
            message = f"{self._stillborn} workers in a row died before they were ready, the last {end}; {ADVICE}"
            yield from self._give_up(Fault(DIED, message, 1))

    def _do_without(self, worker: W, fault: Receipt | Fault) -> Iterator[Failed]:
        """The Work could not be built: one worker less, and when no other is left, nothing pending can be done."""
        assert isinstance(fault, Fault)
        self._part_with(worker)
        self._count -= 1
        if self._count:
            log.warning("a worker could not start (%s: %s); %d left", fault.cause, fault.message, self._count)
        else:
            yield from self._give_up(fault)

    def _give_up(self, fault: Fault) -> Iterator[Failed]:
        failures = self._pending.give_up(fault.cause, fault.message, fault.exit_code)
        self._ended += len(failures)
        yield from failures

    def _part_with(self, worker: W) -> str:
        self._workers.remove(worker)
        return worker.end()


_ABANDON_S = 2.0  # after its grace a worker releases its lease and ends by itself, before it is killed
