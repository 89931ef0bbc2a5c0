"""The inside of one worker: builds its Work once, then answers one partition at a time.

Knows a Work, what is said between driver and worker, and the pipe of a process on this machine; knows neither the other
workers nor any retrying.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from jobs.engines.engine import Beat, Work, WorkSpec
from jobs.engines.pending import DIED
from jobs.no_pandas import spare_pandas
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
    if not isinstance(error, BackhaulError):
        return Fault(type(error).__name__, str(error) or repr(error), 1)
    return Fault(DIED if isinstance(error, WorkerDied) else error.cause, str(error), error.exit_code)


class WorkerLoop:
    """Builds its Work, then answers partitions one after the other, in the thread that calls ``serve``.

    ``send`` takes each answer and raises for one that cannot be sent; it is called from several threads.
    ``abandoned`` is called when the time for the part in hand is over and its lease was released: the process
    should end now.
    """

    def __init__(self, send: Callable[[Answer], None], abandoned: Callable[[], None]) -> None:
        self._send = send
        self._abandoned = abandoned
        self._stop = threading.Event()
        self._work: Work[Any] | None = None
        # At most one partition is under way, and the end mark behind it.
        self._partitions: queue.Queue[Partition | None] = queue.Queue(2)

    def hand(self, partition: Partition | None) -> None:
        """The next partition; None: end."""
        self._partitions.put(partition)

    def stop(self, grace_s: float | None = None) -> None:
        """Take no partition any more, finish the part in hand, and abandon it after ``grace_s``."""
        self._stop.set()
        if grace_s is not None:
            timer = threading.Timer(grace_s, self._abandon)
            timer.daemon = True
            timer.start()

    def serve(self, hello: Hello) -> None:
        logging.basicConfig(level=hello.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        spare_pandas()
        try:
            spec: WorkSpec[Any] = pickle.loads(hello.spec)  # noqa: S301  # from our own driver
            work = self._work = spec.work(spec.settings)
            work.report = lambda beat: self._send(Beat.of(beat))
            work.stopping = self._stop.is_set
        except Exception as error:
            if not isinstance(error, BackhaulError):
                log.exception("the work could not be built")
            self._send(fault_of(error))
            return
        self._send(Ready())
        while (partition := self._partitions.get()) is not None:
            answer = Stopped() if self._stop.is_set() else _answer(work, partition)
            try:
                self._send(answer)
            except Exception as error:  # a receipt that cannot be pickled
                self._send(fault_of(error))

    def _abandon(self) -> None:
        """The time for the part in hand is over."""
        if isinstance(self._work, LeasedWork):
            self._work.abandon()
        self._abandoned()


def _answer(work: Work[Any], partition: Partition) -> Answer:
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


def main(descriptor: int) -> None:
    """Serve the driver at the other end of ``descriptor`` until it says so, or is gone."""
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everyone; the driver decides
    pipe, sending = Connection(descriptor), threading.Lock()

    def send(answer: Answer) -> None:
        with sending:
            pipe.send(answer)

    loop = WorkerLoop(send, abandoned=lambda: os._exit(Interrupted.exit_code))
    signal.signal(signal.SIGTERM, lambda number, frame: loop.stop())
    hello: Hello = pipe.recv()
    threading.Thread(target=_listen, args=(pipe, loop), daemon=True).start()
    loop.serve(hello)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)  # nothing of ours is left to do, and libraries' exit handlers have hung and aborted here


def _listen(pipe: Connection, loop: WorkerLoop) -> None:
    """Take what the driver sends; when the driver is gone, so is this process, whatever the Work is doing."""
    try:
        while (message := pipe.recv()) is not None:
            if isinstance(message, Stop):
                loop.stop(message.grace_s)
            else:
                loop.hand(message)
        loop.hand(None)
    except (EOFError, OSError):
        os._exit(1)
