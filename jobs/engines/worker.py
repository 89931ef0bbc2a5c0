"""The inside of one worker process: builds its Work once, then answers one partition at a time.

Knows the pipe to its driver and a Work; knows neither the other workers nor any retrying.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from jobs.engines.engine import Beat, Work, WorkSpec
from jobs.engines.pending import DIED
from pipelines.errors import BackhaulError, Interrupted, LeaseHeld, WorkerDied
from pipelines.leased import LeasedWork
from pipelines.partition import Partition

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """The Work is built."""


@dataclass(frozen=True, slots=True)
class Receipt:
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the Work: in its constructor before Ready, in a partition after it."""

    cause: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The Work raised Interrupted."""


@dataclass(frozen=True, slots=True)
class InOtherHands:
    """Another invocation has the partition."""

    message: str
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """To the worker: finish the part in hand, ``grace_s`` at most, then end."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Hello:
    """To the worker, first. The spec is pickled apart, so that a class that cannot be imported is an error of
    the Work and not of the pipe."""

    spec: bytes
    log_level: int


Answer = Ready | Receipt | Fault | Stopped | InOtherHands | Beat


def fault_of(error: BaseException) -> Fault:
    exit_code = error.exit_code if isinstance(error, BackhaulError) else 1
    cause = DIED if isinstance(error, WorkerDied) else type(error).__name__
    return Fault(cause, str(error) or repr(error), exit_code)


def main(descriptor: int) -> None:
    """Serve the driver at the other end of ``descriptor`` until it says so, or is gone."""
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everyone; the driver decides
    worker = _Worker(Connection(descriptor))
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop.set())
    worker.serve()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)  # nothing of ours is left to do, and libraries' exit handlers have hung and aborted here


class _Worker:
    def __init__(self, pipe: Connection) -> None:
        self.stop = threading.Event()
        self._pipe = pipe
        self._sending = threading.Lock()
        self._work: Work[Any] | None = None
        # At most one partition is under way, and the end mark behind it.
        self._partitions: queue.Queue[Partition | None] = queue.Queue(2)

    def serve(self) -> None:
        hello: Hello = self._pipe.recv()
        logging.basicConfig(level=hello.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            spec: WorkSpec[Any] = pickle.loads(hello.spec)  # noqa: S301  # from our own driver's pipe
            work = self._work = spec.work(spec.settings)
            work.report = lambda beat: self._send(Beat.of(beat))
            work.stopping = self.stop.is_set
        except Exception as error:
            if not isinstance(error, BackhaulError):
                log.exception("the work could not be built")
            self._send(fault_of(error))
            return
        self._send(Ready())
        while (partition := self._partitions.get()) is not None:
            answer = self._answer(work, partition)
            try:
                self._send(answer)
            except Exception as error:  # a receipt that cannot be pickled
                self._send(fault_of(error))

    def _answer(self, work: Work[Any], partition: Partition) -> Answer:
        try:
            return Receipt(work(partition))
        except Interrupted:
            return Stopped()
        except LeaseHeld as error:
            return InOtherHands(str(error), error.retry_after_s)
        except BackhaulError as error:
            return fault_of(error)
        except BaseException as error:  # the engine boundary: whatever it is, the driver must hear of it
            log.exception("partition %d failed", partition.number)
            return fault_of(error)

    def _send(self, answer: Answer) -> None:
        with self._sending:
            self._pipe.send(answer)

    def _abandon(self) -> None:
        """The time for the part in hand is over."""
        if isinstance(self._work, LeasedWork):
            self._work.abandon()
        os._exit(Interrupted.exit_code)

    def _listen(self) -> None:
        """Take what the driver sends; when the driver is gone, so is this process, whatever the Work is doing."""
        try:
            while (message := self._pipe.recv()) is not None:
                if isinstance(message, Stop):
                    self.stop.set()
                    threading.Timer(message.grace_s, self._abandon).start()
                else:
                    self._partitions.put(message)
            self._partitions.put(None)
        except (EOFError, OSError):
            os._exit(1)
