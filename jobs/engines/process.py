"""One worker process as the driver sees it: its pipe, what it has in hand, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from multiprocessing.connection import Pipe
from typing import Any

from jobs.engines.worker import Answer, Hello
from pipelines.partition import Partition

_END_S = 10.0


class WorkerProcess:
    """A fresh interpreter that runs nothing but ``jobs.engines.worker``.

    Not multiprocessing.Process: its spawn runs the driver's main module again, whatever that does. The pipe's
    end of file is the sentinel both ways, since each end is held by one process alone.
    """

    def __init__(self, hello: Hello) -> None:
        self.ready = False
        self.partition: Partition | None = None
        self.pipe, theirs = Pipe()
        program = (
            f"import sys; sys.path[:] = {sys.path!r}\nfrom jobs.engines.worker import main; main({theirs.fileno()})"
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and program
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=2,  # the driver's standard output belongs to --json; whatever a library prints goes to the log
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()
        self.send(hello)

    def send(self, message: Any) -> None:  # Any: Hello, a Partition, Stop or None
        with contextlib.suppress(OSError):  # a worker that died is noticed where its pipe is read
            self.pipe.send(message)

    def recv(self) -> Answer:
        answer: Answer = self.pipe.recv()
        return answer

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """Wait for the end, by force after a while, and say what it was."""
        self.pipe.close()  # the end of the pipe ends the worker, too
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(_END_S)
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
