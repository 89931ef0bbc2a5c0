"""Small programs for the Batch simulator's tests, and how to wait for one."""

from __future__ import annotations

import sys
import time
from typing import Final

import psutil

from tests.batch.jobs import Child
from tests.batch.simulator import BatchSimulator

DEADLINE_S: Final = 30.0
NAPPING: Final = "import time; time.sleep(600)"
OBEDIENT: Final = (  # says that it listens, and exits 75 when told to stop
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('up', flush=True);"
    " time.sleep(600)"
)
STUBBORN: Final = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def until_up(batch: BatchSimulator, child: Child) -> None:
    """Until the child's first attempt has said something."""

    def spoken() -> bool:
        return bool(child.attempts) and child.attempts[0].stdout.exists() and child.attempts[0].stdout.read_text() != ""

    batch.run_until(spoken, DEADLINE_S, f"child {child.index} is up")


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def await_end(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)
