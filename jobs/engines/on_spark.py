"""The Spark engine: partitions as an RDD of descriptors in small jobs, one Work per Python worker.

Spark places the tasks, runs them again where an executor is lost, and brings their reports back, each once; the
order, the attempts and the end are decided here. Knows nothing of what a Work does, and writes no file: receipts
are the Work's own, and no Hadoop committer has a part in it.
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from pyspark import SparkContext

from jobs.engines.engine import Beat, Done, EngineSettings, Failed, Outcome, WorkSpec
from jobs.engines.notice import Notice
from jobs.engines.pending import ADVICE, DIED, Pending
from jobs.engines.spark_context import cause_of, driver_host, is_local, open_context, own_workers, task_attempts
from jobs.engines.spark_jobs import Ended, SparkJobs
from jobs.engines.spark_line import Address, Lines, Message
from jobs.engines.spark_worker import Answered, Died, Report, Stillborn, Task, Unbuilt
from jobs.engines.stop import StopSignals, interrupted
from jobs.engines.worker import Fault, Hello, InOtherHands, Receipt
from pipelines.partition import Partition

S = TypeVar("S")
log = logging.getLogger(__name__)

_LOOK_S = 0.2  # how often a waiting driver looks whether it was told to stop
_ABANDON_S = 2.0  # after its grace a worker releases its lease and ends by itself, before it is killed
_END_S = 10.0  # for workers and jobs to end
_ELSEWHERE_S = 2.0  # until a partition of a host that goes away is tried again
_LEFT_BY_THEN_S = 150.0  # a spot host has two minutes from its notice; who still reports then will go on to


class SparkEngine:
    """On ``settings.spark.master``, or what spark-submit says, or ``local[workers, max_attempts]``. On a cluster
    Spark's resources decide how many workers there are, not ``settings.workers``."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings

    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Generator[Outcome]:  # fmt: skip
        """One outcome per partition. Closing the iterator ends the workers, not the Spark context.

        An executor that is lost or decommissioned costs the parts in hand: Spark runs its slices again, where
        receipts answer for what is done. A speculative copy does some work twice and changes nothing; the slower
        one ends after the part in hand.

        Raises:
            Interrupted: told to stop by SIGINT or SIGTERM; what was yielded before is done. Workers that reach the
                driver's port finish the part in hand, others are killed.
            BackhaulError: Spark itself ended.
        """
        if not partitions:
            return
        context = open_context(self._settings)
        limits = [count for count in (workers, own_workers(context, self._settings)) if count is not None]
        run = _Run(context, spec, partitions, self._settings, min(limits, default=None), on_beat)
        try:
            with StopSignals(on_second=run.kill, stop_on_rebalance=self._settings.stop_on_rebalance) as stop:
                yield from run.outcomes(stop)
        finally:
            run.end()


class _Run:
    """What is pending, and what becomes of what Spark brings back."""

    def __init__(self, context: SparkContext, spec: WorkSpec[Any], partitions: Sequence[Partition],
                 settings: EngineSettings, limit: int | None, on_beat: Callable[[Beat], None]) -> None:  # fmt: skip
        self._settings = settings
        self._on_beat = on_beat
        self._pending = Pending(partitions, settings.max_attempts)
        self._task_attempts = task_attempts(context)
        self._inbox: queue.SimpleQueue[Report | Ended | tuple[int, Message]] = queue.SimpleQueue()
        self._lines = Lines(*driver_host(context), settings.spark.port, lambda *heard: self._inbox.put(heard))
        self._jobs = SparkJobs(context, _task(context, spec, settings, self._lines.address), limit, self._inbox)
        self._at_work: dict[int, tuple[int, int]] = {}  # line → the (job, index) that it has begun and not reported
        self._ended = 0
        self._failed_jobs = 0  # in a row, with no report between
        self._unready: Unbuilt | Stillborn | None = None  # what the last slice met that found no worker ready
        self._rounds = 0  # in a row in which no slice found one
        self._any_ready = False  # ever
        self._leaving_since: float | None = None  # since when every report came from a host that goes away
        self._stopping = False
        self._killed = False

    def outcomes(self, stop: StopSignals) -> Generator[Outcome]:
        while (self._pending or self._jobs.in_flight) and not stop.requested:
            if not self._unready:
                self._jobs.hand_out(self._pending)
            elif not self._jobs.in_flight:  # until then nothing is handed out: does any worker come up?
                yield from self._end_round(self._unready)
            yield from self._listen(self._pending.wait_s)
        if stop.requested:
            yield from self._finish_parts(stop)
            raise interrupted(self._ended, self._pending.total, stop.notice)

    def kill(self) -> None:
        """From a signal's handler, which may have interrupted whoever holds a lock."""
        self._killed = True
        threading.Thread(target=self._lines.say, args=(["bye"],), daemon=True).start()

    def end(self) -> None:
        self._jobs.end(_END_S)
        if not self._lines.close(_END_S):
            log.warning("some Spark workers did not end within %.0f s; Spark ends them with their executors", _END_S)
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, tuple):
                self._hear(*item)

    def _listen(self, wait_s: float | None) -> Generator[Outcome]:
        try:
            item = self._inbox.get(timeout=_LOOK_S if wait_s is None else min(wait_s, _LOOK_S))
        except queue.Empty:
            return
        if isinstance(item, Report):
            yield from self._take(item)
        elif isinstance(item, tuple):
            self._hear(*item)
        elif not self._stopping:
            yield from self._close(item)

    def _hear(self, line: int, message: Message) -> None:
        if message[0] == "beat":
            self._on_beat(Beat(*message[1:]))
        elif message[0] == "began":
            self._at_work[line] = (message[1], message[2])
        elif message[0] == "gone":
            self._at_work.pop(line, None)

    def _take(self, report: Report) -> Generator[Outcome]:
        partitions = self._jobs.reported(report)
        self._leave_to_the_faster(report)
        if not partitions:
            return
        self._failed_jobs = 0
        self._leaving_since = (self._leaving_since or time.monotonic()) if report.doomed else None
        if self._leaving_since and time.monotonic() - self._leaving_since > _LEFT_BY_THEN_S:
            raise interrupted(self._ended, self._pending.total, Notice("drain", "all workers' hosts go away"))
        for beat in report.beats:
            self._on_beat(beat)
        answers = dict(report.answers)
        back: list[Partition] = []
        for partition in partitions:
            if outcome := self._outcome(partition, answers.get(partition.id), report.doomed, back):
                yield outcome
        for partition in reversed(back):
            self._pending.put_back(partition)

    def _outcome(self, partition: Partition, answer: Answered | None, doomed: bool,
                 back: list[Partition]) -> Outcome | None:  # fmt: skip
        if isinstance(answer, Unbuilt | Stillborn):
            self._unready = answer
        elif answer is not None:
            self._unready, self._rounds, self._any_ready = None, 0, True
        outcome: Outcome | None = None
        if isinstance(answer, Receipt):
            outcome = Done(partition, answer.receipt)
        elif isinstance(answer, Fault):
            outcome = self._pending.failed(partition, answer.cause, answer.message, answer.exit_code)
        elif isinstance(answer, InOtherHands):
            return self._pending.hold(partition, answer.retry_after_s, answer.message)
        elif isinstance(answer, Died):
            outcome = self._pending.died(partition, answer.end)
        elif doomed:
            self._pending.hold(partition, _ELSEWHERE_S, f"partition {partition.number} was on a host that goes away")
        else:
            back.append(partition)
        self._ended += outcome is not None
        return outcome

    def _leave_to_the_faster(self, report: Report) -> None:
        """Of a slice and its speculative copy the other one may stop; Spark does not tell it."""
        reported = (report.job, report.index)
        lines = [line for line, at in self._at_work.items() if at == reported]
        for line in lines:
            del self._at_work[line]
            if len(lines) > 1:
                self._lines.say(["drop", *reported], to=line)

    def _end_round(self, unready: Unbuilt | Stillborn) -> Iterator[Failed]:
        """No slice of a whole round found a worker ready. Where some are, it was bad luck."""
        self._unready = None
        self._rounds += 1
        most = self._settings.max_attempts * (self._jobs.slots if self._any_ready else 1)
        if isinstance(unready, Unbuilt) and (self._rounds >= most or not self._any_ready):
            yield from self._give_up(unready.fault)
        elif isinstance(unready, Stillborn) and self._rounds >= most:
            message = f"workers died before they were ready, the last {unready.end}, {self._rounds} times in a row"
            yield from self._give_up(Fault(DIED, f"{message}; {ADVICE}", 1))

    def _close(self, ended: Ended) -> Iterator[Failed]:
        """A job is over; what it has not reported was lost when it failed."""
        if not (lost := self._jobs.ended(ended)) or ended.error is None:
            return
        end = f"with its Spark job: {cause_of(ended.error)}"
        self._failed_jobs += 1
        if len(lost) == 1:
            self._pending.attempts[lost[0].id] += self._task_attempts - 1
            if failed := self._pending.died(lost[0], end):
                self._ended += 1
                yield failed
        else:
            log.warning("a Spark job failed, its %d partitions run apart: %s", len(lost), end)
            for partition in reversed(lost):
                self._pending.put_back(partition)
        if self._failed_jobs > self._settings.max_attempts:
            yield from self._give_up(Fault(DIED, f"{self._failed_jobs} Spark jobs in a row failed before any worker "
                                           f"answered; are Backhaul and its requirements on the executors? {end}", 1))  # fmt: skip

    def _give_up(self, fault: Fault) -> Iterator[Failed]:
        failures = self._pending.give_up(fault.cause, fault.message, fault.exit_code)
        self._ended += len(failures)
        yield from failures

    def _finish_parts(self, stop: StopSignals) -> Generator[Outcome]:
        """Let workers finish the part in hand, ``grace_s`` at most. Nothing is begun or retried."""
        self._stopping = True
        self._pending.clear()
        grace_s = stop.grace_s(self._settings.grace_s)
        while not self._inbox.empty():
            yield from self._listen(None)
        log.warning("stopping: %d workers finish the part in hand; a second signal kills them", len(self._at_work))
        self._lines.say(["halt", grace_s])
        deadline = time.monotonic() + grace_s + _ABANDON_S
        while self._at_work and not self._killed and time.monotonic() < deadline:
            yield from self._listen(None)


def _task(context: SparkContext, spec: WorkSpec[Any], settings: EngineSettings, line: Address | None) -> Task:
    apart = not is_local(context.master)
    return Task(
        run=uuid.uuid4().hex,
        hello=Hello(pickle.dumps(spec), logging.getLogger().getEffectiveLevel()),
        line=line,
        grace_s=settings.grace_s,
        watch=apart,
        stop_on_rebalance=settings.stop_on_rebalance,
        decommission=apart and context.getConf().get("spark.decommission.enabled") == "true",
    )
