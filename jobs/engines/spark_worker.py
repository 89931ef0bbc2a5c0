"""What runs inside a Spark Python worker: a keeper of one worker process, which holds the Work between tasks.

The Work lives in a process of its own, as with the local engine, so that a partition that kills it kills no task,
and the keeper can say which one it was and how it ended. Knows one slice at a time; the driver decides the rest.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from pyspark import Accumulator, TaskContext

from jobs.engines.engine import Beat
from jobs.engines.notice import Notice, SpotWatch
from jobs.engines.process import WorkerProcess
from jobs.engines.spark_line import Address, Message, connect
from jobs.engines.stop import grace_within
from jobs.engines.worker import Answer, Fault, Hello, Ready, Stop, Stopped
from pipelines.partition import Partition

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What all tasks of a run have in common. ``line`` None: the driver has no port to listen at.

    ``watch``: look for notices that this host goes away (the driver does where it shares the host), and with
    ``decommission`` pass them on to the executor.
    """

    run: str
    hello: Hello
    line: Address | None
    grace_s: float
    watch: bool
    stop_on_rebalance: bool
    decommission: bool


@dataclass(frozen=True, slots=True)
class SparkSlice:
    """The partitions of one Spark task."""

    job: int
    index: int
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Died:
    """The worker process ended with the partition in hand."""

    end: str


@dataclass(frozen=True, slots=True)
class Stillborn:
    """The worker process ended before its Work was built."""

    end: str


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """The Work could not be built here."""

    fault: Fault


Answered = Answer | Died | Stillborn | Unbuilt


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a slice: an answer for each partition that was begun, the last of them perhaps no outcome.
    ``doomed`` when this host is about to go away; ``beats`` where there was no line to tell them."""

    job: int
    index: int
    answers: tuple[tuple[str, Answered], ...]
    seconds: float
    doomed: bool
    beats: tuple[Beat, ...]


def run_slices(task: Task, reports: Accumulator[list[Report]], slices: Iterator[SparkSlice]) -> None:
    """The body of a Spark task."""
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context else None
    for one in slices:
        reports.add([keeper_of(task, ",".join(gpus.addresses) if gpus else "").run(one)])


_kept: dict[tuple[str, str], Keeper] = {}  # at most one; lives as long as Spark reuses this process


def keeper_of(task: Task, gpus: str) -> Keeper:
    """The keeper of this run and these GPUs; a new one where the last was another's, or Spark gave another GPU."""
    key = (task.run, gpus)
    if key not in _kept:
        for former in _kept.values():
            former.close()
        _kept.clear()
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # what the worker process will see
        _kept[key] = Keeper(task)
    return _kept[key]


class Keeper:
    """Runs slices in a worker process; obeys the line to the driver while it does."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._child: WorkerProcess | None = None
        self._unready: tuple[int, Unbuilt | Stillborn] | None = None  # and in which job: the next one tries again
        self._slice: SparkSlice | None = None
        self._turn = threading.Lock()  # between handing out and being told to stop
        self._stopping = False  # nothing new is begun
        self._told = False  # the worker process was: it ends after what it has in hand
        self._closed = False
        self._doomed = False
        self._beats: list[Beat] = []
        self._line = connect(task.line, self._hear)
        self._watch = SpotWatch(self._notice, rebalance=task.stop_on_rebalance) if task.watch else None
        if self._watch:
            self._watch.__enter__()

    def run(self, one: SparkSlice) -> Report:
        began = time.monotonic()
        self._slice = one
        if self._line:
            self._line.tell(["began", one.job, one.index])
        answers: list[tuple[str, Answered]] = []
        for partition in one.partitions:
            answer = self._ask(partition)
            answers.append((partition.id, answer))
            if isinstance(answer, Stopped | Stillborn | Unbuilt):
                break
        self._slice = None
        beats, self._beats = tuple(self._beats), []
        return Report(one.job, one.index, tuple(answers), time.monotonic() - began, self._doomed, beats)

    def close(self) -> None:
        """End the worker process: asked to when at rest, else killed."""
        self._closed = True
        if self._watch:
            self._watch.__exit__(None, None, None)
        if child := self._child:
            if child.partition is None:
                child.send(None)
            else:
                child.kill()
            child.end()
        if self._line:
            self._line.close()

    def _ask(self, partition: Partition) -> Answered:
        child = self._child or self._start()
        if not isinstance(child, WorkerProcess):
            return child
        with self._turn:
            if self._stopping:
                return Stopped()
            child.partition = partition
            child.send(partition)
        try:
            while isinstance(answer := child.pipe.recv(), Beat):
                self._beat(answer)
        except (EOFError, OSError):
            told, end = self._told, self._part_with(child)
            return Stopped() if told else Died(end)
        child.partition = None
        if self._told or isinstance(answer, Stopped):
            self._part_with(child)
        result: Answer = answer
        return result

    def _start(self) -> WorkerProcess | Stillborn | Unbuilt | Stopped:
        """A worker process whose Work is built. What failed to come up is not tried again within a job."""
        assert self._slice is not None
        if self._unready and self._unready[0] == self._slice.job:
            return self._unready[1]
        with self._turn:
            if self._stopping:
                return Stopped()
            child = self._child = WorkerProcess(self._task.hello)
        try:
            answer: Answer = child.pipe.recv()
        except (EOFError, OSError):
            answer = Stopped()
        if isinstance(answer, Ready):
            child.ready = True
            return child
        end = self._part_with(child)
        if self._stopping:
            return Stopped()
        unready = Unbuilt(answer) if isinstance(answer, Fault) else Stillborn(end)
        self._unready = self._slice.job, unready
        return unready

    def _part_with(self, child: WorkerProcess) -> str:
        self._child, self._told = None, False
        return child.end()

    def _beat(self, beat: Beat) -> None:
        if self._line:
            self._line.tell(["beat", beat.rows, beat.tokens, beat.resumed])
        else:
            self._beats.append(beat)

    def _hear(self, message: Message) -> None:
        """What the driver says, from the line's thread."""
        if message[0] == "halt":
            self._stop(message[1])
        elif message[0] == "drop" and self._slice and message[1:] == [self._slice.job, self._slice.index]:
            self._finish(self._task.grace_s)
        elif message[0] in ("bye", "gone") and not self._closed:  # all is done, or there is no driver any more
            self.close()
            sys.stderr.flush()
            os._exit(0)

    def _notice(self, notice: Notice) -> None:
        """This host goes away, and with it the executor: Spark should give it nothing more."""
        self._doomed = True
        self._stop(grace_within(self._task.grace_s, notice.deadline_s))
        if self._task.decommission:
            _decommission_executor()

    def _stop(self, grace_s: float) -> None:
        """Nothing new is begun from now on."""
        with self._turn:
            self._stopping = True
        self._finish(grace_s)

    def _finish(self, grace_s: float) -> None:
        with self._turn:
            if (child := self._child) and child.partition is not None:
                self._told = True
                child.send(Stop(grace_s))
            elif child and not child.ready:  # who is still building its Work has nothing in hand
                child.kill()


def _decommission_executor() -> None:
    """Tell the executor above this process as a cluster manager would."""
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any("ExecutorBackend" in word for word in process.cmdline()):
                log.warning("decommissioning the executor (process %d)", process.pid)
                process.send_signal(signal.SIGPWR)
                return
