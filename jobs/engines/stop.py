"""SIGINT and SIGTERM while an engine runs: the first asks to stop, the second kills. Knows no processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Pipe
from types import FrameType, TracebackType
from typing import Any

from pipelines.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Handlers are set in the main thread alone, and the former ones return when the block ends. Elsewhere
    nothing is ever requested: whoever runs an engine in a thread ends it by closing its iterator.

    ``wake`` becomes readable when a signal came, so that a wait on pipes ends at once.
    """

    def __init__(self, on_second: Callable[[], None]) -> None:
        self.requested = False
        self.wake, self._wake_end = Pipe(duplex=False)
        os.set_blocking(self._wake_end.fileno(), False)
        self._on_second = on_second
        self._former: dict[int, Any] = {}  # Any: what signal.signal takes and gives

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if threading.current_thread() is threading.main_thread():  # a forgotten iterator may be collected elsewhere
            for number, former in self._former.items():
                signal.signal(number, former)
        self.wake.close()
        self._wake_end.close()

    def drain(self) -> None:
        """After ``wake`` was readable: it will be again at the next signal only."""
        os.read(self.wake.fileno(), 64)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        with contextlib.suppress(BlockingIOError):  # full of signals: readable all the same
            os.write(self._wake_end.fileno(), b"\0")
        if again:
            self._on_second()


def interrupted(ended: int, total: int) -> Interrupted:
    return Interrupted(
        f"interrupted: {ended} of {total} partitions ended; the parts written of the others are kept. "
        "Run the same command again to resume."
    )
