"""Spark jobs of one run: each an RDD of slices, whose reports an accumulator brings while the job is under way.
Knows which slices have not reported; decides nothing about them."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import SparkContext
from pyspark.accumulators import AccumulatorParam

from jobs.engines.spark_context import cause_of, is_running
from jobs.engines.spark_worker import Report, SparkSlice, Task, run_slices
from pipelines.errors import BackhaulError
from pipelines.partition import Partition

_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """A job is over; all its reports came before. ``alone``: it was started with a single partition on purpose."""

    job: int
    alone: bool
    error: Exception | None


class SparkJobs:
    """``inbox`` takes reports and the ends of jobs."""

    def __init__(self, context: SparkContext, task: Task, inbox: queue.SimpleQueue[Any]) -> None:
        self._context = context
        self._task = task
        self._inbox = inbox
        self._reports = context.accumulator(inbox, _IntoInbox())
        self._group = f"backhaul-{uuid.uuid4().hex}"
        self._numbers = itertools.count()
        self._slices: dict[int, dict[int, tuple[Partition, ...]]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self.slots = max(1, context.defaultParallelism)  # tasks that Spark runs at once, when the last job was started

    @property
    def in_flight(self) -> int:
        """Slices that have not reported."""
        return sum(map(len, self._slices.values()))

    def start(self, slices: Sequence[tuple[Partition, ...]], *, alone: bool = False) -> None:
        self.slots = max(1, self._context.defaultParallelism)
        job = next(self._numbers)
        self._slices[job] = dict(enumerate(slices))
        rows = [SparkSlice(job, index, partitions) for index, partitions in enumerate(slices)]
        self._threads[job] = threading.Thread(target=self._run, args=(job, rows, alone), daemon=True)
        self._threads[job].start()

    def reported(self, job: int, index: int) -> tuple[Partition, ...]:
        """The partitions of a slice, which is in flight no more."""
        return self._slices[job].pop(index) if job in self._slices else ()

    def ended(self, ended: Ended) -> list[Partition]:
        """The partitions that a job has lost.

        Raises:
            BackhaulError: it failed because Spark itself is over.
        """
        del self._threads[ended.job]
        if ended.error and not is_running(self._context):
            raise BackhaulError(
                f"Spark ended ({cause_of(ended.error)}); what was done is kept. Run the same command again to resume."
            ) from ended.error
        return list(itertools.chain.from_iterable(self._slices.pop(ended.job).values()))

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

    def _alive(self) -> list[threading.Thread]:
        return [thread for thread in self._threads.values() if thread.is_alive()]

    def _run(self, job: int, slices: list[SparkSlice], alone: bool) -> None:
        error: Exception | None = None
        try:
            # Not interrupting: Spark then kills the Python workers of a cancelled job, where it would forget them else.
            self._context.setJobGroup(self._group, f"Backhaul, {len(slices)} slices", interruptOnCancel=False)
            rows = self._context.parallelize(slices, len(slices))
            rows.foreachPartition(partial(run_slices, self._task, self._reports))
        except Exception as failure:  # the engine boundary: Py4J and Spark raise many classes
            error = failure
        self._inbox.put(Ended(job, alone, error))


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
