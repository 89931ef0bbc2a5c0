"""What asks a running engine to stop: SIGINT, SIGTERM, and notices that this machine goes away. The first of them asks
to stop, a second signal kills. Knows no processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Pipe
from types import FrameType, TracebackType
from typing import Any

from jobs.engines.notice import Notice, SpotWatch
from pipelines.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Handlers are set in the main thread alone, and the former ones return when the block ends. Elsewhere
    no signal is ever seen: whoever runs an engine in a thread ends it by closing its iterator. Notices reach it
    in any thread; they ask once, as the first signal does, and never count as the second.

    Blocks may end in any order, since a forgotten iterator's ends when it is collected: one that began later keeps its
    handlers, and a signal that then comes to an ended block goes to whom it would have come without that.

    ``wake`` becomes readable when a signal or a notice came, so that a wait on pipes ends at once. ``notice`` is
    what asked first.
    """

    def __init__(self, on_second: Callable[[], None], *, watch: bool = True, stop_on_rebalance: bool = True) -> None:
        self.requested = False
        self.notice: Notice | None = None
        self.wake, self._wake_end = Pipe(duplex=False)
        os.set_blocking(self._wake_end.fileno(), False)
        self._on_second = on_second
        self._signalled = False
        self._former: dict[int, Any] = {}  # Any: what signal.signal takes and gives
        self._watch = SpotWatch(self.tell, rebalance=stop_on_rebalance) if watch else contextlib.nullcontext()
        # Between a notice and the end of the block; the handler takes no lock. Re-entrant, because a forgotten
        # iterator may be collected, and so end its block, while the same thread tells of a notice.
        self._ending = threading.RLock()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._watch.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if threading.current_thread() is threading.main_thread():  # a forgotten iterator may be collected elsewhere
            for number, former in self._former.items():
                if signal.getsignal(number) == self._handle:
                    signal.signal(number, former)
        self._watch.__exit__(kind, error, trace)
        with self._ending:
            self.wake.close()
            self._wake_end.close()

    def tell(self, notice: Notice) -> None:
        """Ask to stop, from any thread. After the block has ended nobody listens."""
        with self._ending:
            if not self._wake_end.closed:
                self._ask(notice)

    def grace_s(self, wanted_s: float) -> float:
        """How long the part in hand may take."""
        return grace_within(wanted_s, self.notice.deadline_s if self.notice else None)

    def drain(self) -> None:
        """After ``wake`` was readable: it will be again at the next signal or notice only."""
        os.read(self.wake.fileno(), 64)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wake.closed:  # a later block, that has ended as well, took us for the handler to return to
            signal.signal(number, self._former[number])
            signal.raise_signal(number)
            return
        again, self._signalled = self._signalled, True
        self._ask(Notice("signal", signal.Signals(number).name))
        if again:
            self._on_second()

    def _ask(self, notice: Notice) -> None:
        self.notice = self.notice or notice
        self.requested = True
        with contextlib.suppress(OSError):  # full of signals, thus readable all the same; or closed in this moment
            os.write(self._wake_end.fileno(), b"\0")


def grace_within(wanted_s: float, left_s: float | None) -> float:
    """``wanted_s``, but no longer than half of the time that a machine has left: the other half is there to abandon the
    part in hand, release its lease and exit."""
    return wanted_s if left_s is None else min(wanted_s, left_s / 2)


def interrupted(ended: int, total: int, notice: Notice | None = None) -> Interrupted:
    why = f" ({notice.detail})" if notice else ""
    return Interrupted(
        f"interrupted: {ended} of {total} partitions ended{why}; the parts written of the others are kept. "
        "Run the same command again to resume."
    )
