"""What kills or holds whoever touches it: an object that never ends, and the kernel's part played by a thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.leases import parse_epoch


def partition_of(conf: Path, prefix: str) -> str:
    """The id of the planned partition that is made of objects beneath ``prefix``."""
    plan = Session(load_settings(conf), quiet=True).plan()
    (found,) = (one for one in plan.partitions if one.slices[0].key.startswith(prefix))
    return found.id


@contextmanager
def endless(path: Path) -> Iterator[None]:
    """A pipe in the object's place: who reads it waits for ever, so that no kill comes too late."""
    kept = path.with_suffix(".kept")
    path.rename(kept)
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink()
        kept.rename(path)  # as it was planned, down to the inode


class Reaper:
    """Plays the kernel that is out of memory: kills whoever takes a partition, as its lease tells."""

    def __init__(self, root: Path, partition_id: str) -> None:
        self.killed: list[int] = []
        self._leases = f"runs/*/leases/embed/{partition_id}/*.json"
        self._root = root
        self._over = threading.Event()
        self._met: set[Path] = set(root.glob(self._leases))
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Reaper:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for path in sorted({*self._root.glob(self._leases)} - self._met):
                epoch = parse_epoch(path.read_bytes())
                self._met.add(path)
                if epoch.ended is None and epoch.owner.pid != os.getpid():
                    self.killed.append(epoch.owner.pid)
                    os.kill(epoch.owner.pid, signal.SIGKILL)
