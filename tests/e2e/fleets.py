"""What a storm can strike under each engine: workers, hosts with all their workers, and drivers."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil

from tests.e2e.command import COMMAND, environment, worker_processes


@dataclass(frozen=True)
class Blow:
    """What was killed, and how many workers with it."""

    what: Literal["worker", "host"]
    workers: int


class Fleet(Protocol):
    engine: dict[str, Any]
    """The settings' engine section."""

    def start(self, verb: str, conf: Path) -> subprocess.Popen[bytes]:
        """A driver."""

    def workers(self, driver: int) -> list[psutil.Process]:
        """What has, or may have, a partition in hand."""

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        """SIGKILL a worker, or a host with its workers. None: nothing was there to be killed."""


class LocalFleet:
    def __init__(self, workers: int = 2) -> None:
        self.engine: dict[str, Any] = {"name": "local", "workers": workers, "max_attempts": 10}

    def start(self, verb: str, conf: Path) -> subprocess.Popen[bytes]:
        return start_driver(verb, conf)

    def workers(self, driver: int) -> list[psutil.Process]:
        return worker_processes(driver)

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        return kill_one(self.workers(driver), chance)


def start_driver(verb: str, conf: Path, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, verb, str(conf)], env=environment(environ), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def kill_one(processes: list[psutil.Process], chance: random.Random) -> Blow | None:
    if processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(processes).send_signal(signal.SIGKILL)
            return Blow("worker", 1)
    return None


@contextlib.contextmanager
def local_fleet() -> Iterator[Fleet]:
    yield LocalFleet()


FLEETS = {"local": local_fleet}
