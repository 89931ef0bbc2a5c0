"""Works that do to Spark what only Spark can suffer."""

from __future__ import annotations

import os
import signal
import time

from pipelines.errors import LeaseHeld
from pipelines.partition import Partition
from tests.engines.works import EvidenceWork, Orders


class SparkWork(EvidenceWork):
    """Orders beside the usual ones: die-above (kills the Python worker that keeps it) | held-once (by another) |
    gpu (leaves the number of the GPU that it sees) | wait-for-go (until there is a file of that name) |
    held-until-go."""

    def __init__(self, settings: Orders) -> None:
        super().__init__(settings)
        if settings.constructor == "stuck":
            time.sleep(600)

    def _die_above(self, partition: Partition) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()  # this process ends with the other

    def _held_once(self, partition: Partition) -> None:
        if self._first_time(partition):
            raise LeaseHeld(f"partition {partition.number} is in other hands", retry_after_s=0.1)

    def _wait_for_go(self, partition: Partition) -> None:
        deadline = time.monotonic() + 60
        while not (self._folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _held_until_go(self, partition: Partition) -> None:
        if not (self._folder / "go").exists():
            raise LeaseHeld(f"partition {partition.number} is in other hands", retry_after_s=0.5)

    def _gpu(self, partition: Partition) -> None:
        self._leave("gpu", int(os.environ["CUDA_VISIBLE_DEVICES"]))
