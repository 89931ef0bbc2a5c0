"""Spark jobs of one run: each an RDD of slices, whose reports an accumulator brings while the job is under way.
Knows how much Spark should have in hand, and which slices have not reported; what becomes of a partition is not its
affair."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import SparkContext
from pyspark.accumulators import AccumulatorParam

from jobs.engines.pending import Pending
from jobs.engines.spark_context import cause_of, is_running
from jobs.engines.spark_worker import Report, SparkSlice, Task, run_slices
from pipelines.errors import BackhaulError
from pipelines.partition import Partition

_SLICE_S = 0.5  # of work in a slice, so that the 10 to 50 ms of CPU of a task are a few per cent of it
_LARGEST_SLICE = 64
_WINDOW = 8  # slices per slot in Spark's hands; more come when half of them are left, so that no slot falls idle
_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """A job is over; all its reports came before."""

    job: int
    error: Exception | None


class SparkJobs:
    """At most ``limit`` slices at once where that is less than Spark's slots. ``inbox`` takes each Report, and Ended."""

    def __init__(self, context: SparkContext, task: Task, limit: int | None, inbox: queue.SimpleQueue[Any]) -> None:
        self.slots = max(1, context.defaultParallelism)  # tasks at once, as far as Spark knew at the last look
        self._context = context
        self._task = task
        self._limit = limit
        self._inbox = inbox
        self._reports = context.accumulator(inbox, _IntoInbox())
        self._group = f"backhaul-{task.run}"
        self._numbers = itertools.count()
        self._slices: dict[int, dict[int, tuple[Partition, ...]]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._suspects: set[str] = set()  # were in a job that failed; each gets its own, to see which one fails
        self._mean_s: float | None = None  # of a partition

    @property
    def in_flight(self) -> int:
        """Slices that have not reported."""
        return sum(map(len, self._slices.values()))

    def hand_out(self, pending: Pending) -> None:
        """Give Spark of what is ready as much as it should have."""
        size = 1 if self._suspects else slice_size(self._mean_s, pending.ready, self.slots)
        taken = [pending.take() for _ in range(min(pending.ready, self._room() * size))]
        for partition in taken:
            if partition.id in self._suspects:
                self._start([(partition,)])
        others = [partition for partition in taken if partition.id not in self._suspects]
        if others:
            self._start([tuple(others[start : start + size]) for start in range(0, len(others), size)])

    def reported(self, report: Report) -> tuple[Partition, ...]:
        """The partitions of the slice, which is in flight no more; none when that was so before."""
        partitions = self._slices[report.job].pop(report.index, ()) if report.job in self._slices else ()
        if partitions and report.answers:
            self._suspects.difference_update(partition.id for partition in partitions)
            seconds = report.seconds / len(report.answers)
            self._mean_s = seconds if self._mean_s is None else 0.8 * self._mean_s + 0.2 * seconds
        return partitions

    def ended(self, ended: Ended) -> list[Partition]:
        """The partitions that a failed job has lost: the one that made it fail, when it was alone.

        Raises:
            BackhaulError: it failed because Spark itself is over.
        """
        del self._threads[ended.job]
        lost = [*itertools.chain.from_iterable(self._slices.pop(ended.job).values())]
        if ended.error and not is_running(self._context):
            raise BackhaulError(
                f"Spark ended ({cause_of(ended.error)}); what was done is kept. Run the same command again to resume."
            ) from ended.error
        self._suspects.update(partition.id for partition in lost)
        return lost

    def end(self, within_s: float) -> None:
        """Cancel what is under way, and wait until Spark has let go of it."""
        deadline = time.monotonic() + within_s
        while self.in_flight and self._alive() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # a JVM that is gone runs nothing
                self._context.cancelJobGroup(self._group)  # again and again: a job may just be starting
            for thread in self._alive():
                thread.join(_AGAIN_S)
        for thread in self._alive():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _room(self) -> int:
        in_flight = self.in_flight
        if self._limit is not None and self._limit < self.slots:
            return max(0, self._limit - in_flight)
        window = self.slots * (1 if self._suspects else _WINDOW)
        return window - in_flight if in_flight <= window // 2 else 0

    def _start(self, slices: Sequence[tuple[Partition, ...]]) -> None:
        self.slots = max(1, self._context.defaultParallelism)
        job = next(self._numbers)
        self._slices[job] = dict(enumerate(slices))
        rows = [SparkSlice(job, index, partitions) for index, partitions in enumerate(slices)]
        self._threads[job] = threading.Thread(target=self._run, args=(job, rows), daemon=True)
        self._threads[job].start()

    def _alive(self) -> list[threading.Thread]:
        return [thread for thread in self._threads.values() if thread.is_alive()]

    def _run(self, job: int, slices: list[SparkSlice]) -> None:
        error: Exception | None = None
        try:
            # Not interrupting: Spark then kills the Python workers of a cancelled job, where it would forget them else.
            self._context.setJobGroup(self._group, f"Backhaul, {len(slices)} slices", interruptOnCancel=False)
            rows = self._context.parallelize(slices, len(slices))
            rows.foreachPartition(partial(run_slices, self._task, self._reports))
        except Exception as failure:  # the engine boundary: Py4J and Spark raise many classes
            error = failure
        self._inbox.put(Ended(job, error))


class _IntoInbox(AccumulatorParam[Any]):  # Any: a list of reports in tasks, the inbox in the driver
    """A task's reports come with its success, once whatever was retried or copied, and before its job ends."""

    def zero(self, value: Any) -> list[Report]:
        return []

    def addInPlace(self, value1: Any, value2: Iterable[Report]) -> Any:  # noqa: N802  # Spark's name
        if isinstance(value1, list):
            return [*value1, *value2]
        for report in value2:
            value1.put(report)
        return value1


def slice_size(mean_s: float | None, ready: int, slots: int) -> int:
    """Partitions of a slice, by the seconds that one takes: one where it takes long, or so few are left that a slot
    would wait."""
    if mean_s is None:
        return 1
    by_time = int(_SLICE_S / max(mean_s, _SLICE_S / _LARGEST_SLICE))
    return max(1, min(by_time, ready // (4 * slots)))
