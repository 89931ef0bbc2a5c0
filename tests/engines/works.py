"""Works for the engine contract: they leave files as evidence, and misbehave where their orders say so."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipelines.errors import GateRefused, Interrupted
from pipelines.partition import Partition, Slice


@dataclass(frozen=True)
class Orders:
    """``folder`` takes the evidence; partition numbers map to what becomes of them:

    ok | refuse | break | die (every time) | die-once | exit | slow (many parts of 20 ms) | slow-once | stuck | chatty |
    meet (until two partitions are under way)
    """

    folder: str
    orders: dict[int, str] = field(default_factory=dict)
    constructor: str = "ok"  # ok | refuse | die | refuse-all-but-first | print


@dataclass(frozen=True)
class PartDone:
    """What the stages report: duck-typed, as they know no engine."""

    rows: int
    tokens: int


class EvidenceWork:
    report: Callable[[Any], None]
    stopping: Callable[[], bool]

    def __init__(self, settings: Orders) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        first = not list(self._folder.glob("built-*"))
        self._leave("built", os.getpid())
        if settings.constructor == "refuse" or (settings.constructor == "refuse-all-but-first" and not first):
            raise GateRefused("no model here; run backhaul doctor CONF")
        if settings.constructor == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.constructor == "print":
            print("a library says hello on standard output")

    def __call__(self, partition: Partition) -> dict[str, Any]:
        order = self._settings.orders.get(partition.number, "ok")
        self._leave("began", partition.number)
        getattr(self, "_" + order.replace("-", "_"))(partition)
        self._leave("done", partition.number)
        return {"partition": partition.id, "pid": os.getpid()}

    def _leave(self, what: str, value: int) -> None:
        (self._folder / f"{what}-{value}-{uuid4().hex[:8]}").write_text(str(os.getpid()))

    def _ok(self, partition: Partition) -> None:
        pass

    def _refuse(self, partition: Partition) -> None:
        raise GateRefused(f"partition {partition.number} is over the limit")

    def _break(self, partition: Partition) -> None:
        raise KeyError("an ordinary bug")

    def _die(self, partition: Partition) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _die_once(self, partition: Partition) -> None:
        if self._first_time(partition):
            os.kill(os.getpid(), signal.SIGKILL)

    def _exit(self, partition: Partition) -> None:
        os._exit(7)

    def _slow(self, partition: Partition) -> None:
        for _ in range(1000):
            if self.stopping():
                self._leave("stopped", partition.number)
                raise Interrupted(f"partition {partition.number} stopped")
            time.sleep(0.02)
            self.report(PartDone(1, 10))

    def _slow_once(self, partition: Partition) -> None:
        if self._first_time(partition):
            self._slow(partition)

    def _meet(self, partition: Partition) -> None:
        deadline = time.monotonic() + 60
        while len(set(evidence(self._folder, "began"))) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError(f"partition {partition.number} is alone")
            time.sleep(0.02)

    def _first_time(self, partition: Partition) -> bool:
        return len(list(self._folder.glob(f"began-{partition.number}-*"))) == 1

    def _stuck(self, partition: Partition) -> None:
        ctypes.CDLL(None).sleep(600)  # in C, where no Python signal handler runs

    def _chatty(self, partition: Partition) -> None:
        for _ in range(20):
            self.report(PartDone(3, 100))

    def _unsendable(self, partition: Partition) -> None:
        raise Unsendable(lambda: None)


class Unsendable(Exception):
    """An exception that cannot be pickled."""


def partitions(count: int) -> list[Partition]:
    return [Partition(f"{number:032x}", number, (), (Slice(f"k{number}", "etag", 1),)) for number in range(count)]


def evidence(folder: Path, what: str) -> list[int]:
    """The values left under ``what``, one per time."""
    return sorted(int(path.name.split("-")[1]) for path in folder.glob(f"{what}-*"))
