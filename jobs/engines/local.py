"""The local engine: worker processes on this machine, each with one Work.

The driver owns every process; it knows nothing of what a Work does. Processes and a loop (Crew) of its own, because
ProcessPoolExecutor breaks for good on one SIGKILL and multiprocessing.Pool hangs on it.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from jobs.engines.crew import Crew
from jobs.engines.engine import Beat, EngineSettings, Outcome, WorkSpec
from jobs.engines.inline import run_inline
from jobs.engines.pending import Pending
from jobs.engines.process import WorkerProcess
from jobs.engines.stop import StopSignals
from jobs.engines.worker import Hello
from pipelines.partition import Partition

S = TypeVar("S")


class LocalEngine:
    """``settings.workers`` processes; 0 runs inline in this one."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings

    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Generator[Outcome]:  # fmt: skip
        """One outcome per partition. Closing the iterator kills the workers.

        Raises:
            Interrupted: told to stop by SIGINT or SIGTERM; what was yielded before is done.
        """
        return run_here(spec, partitions, self._settings, workers, on_beat)


def run_here(spec: WorkSpec[S], partitions: Sequence[Partition], settings: EngineSettings, workers: int | None,
             on_beat: Callable[[Beat], None], *, batches: Iterable[Sequence[Partition]] | None = None,
             leave_after_s: float | None = None) -> Generator[Outcome]:  # fmt: skip
    """The partitions in this order, or in that of ``batches``, on this machine. With ``leave_after_s``, those that
    others hold are left to them when there was nothing else to do for so long."""
    count = settings.workers if workers is None else min(workers, settings.workers)
    if not partitions:
        return
    pending = Pending(partitions, settings.max_attempts, batches=batches)
    if count == 0:
        yield from run_inline(spec, pending, settings, on_beat, leave_after_s)
        return
    crew = Crew(_Processes(spec), pending, count, settings, on_beat, leave_after_s)
    try:
        with StopSignals(on_second=crew.kill, stop_on_rebalance=settings.stop_on_rebalance) as stop:
            yield from crew.outcomes(stop)
    finally:
        crew.disband()


class _Processes:
    """The staff of this machine."""

    def __init__(self, spec: WorkSpec[Any]) -> None:
        self._hello = Hello(pickle.dumps(spec), logging.getLogger().getEffectiveLevel())

    def hire(self) -> WorkerProcess:
        return WorkerProcess(self._hello)

    def wait(self, workers: Sequence[WorkerProcess], wake: Connection, timeout_s: float | None) -> list[WorkerProcess]:
        readable = wait([wake, *(worker.pipe for worker in workers)], timeout_s)
        return [worker for worker in workers if worker.pipe in readable]
