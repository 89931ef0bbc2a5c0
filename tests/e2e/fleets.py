"""What a storm can strike under each engine: workers, hosts with all their workers, and drivers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil

from tests.e2e.command import COMMAND, environment, worker_processes
from tests.fixtures.ray_cluster import RayNodes, running_ray
from tests.fixtures.spark import SparkCluster, running_spark


@dataclass(frozen=True)
class Blow:
    """What was killed, and how many workers with it."""

    what: Literal["worker", "host"]
    workers: int


class Fleet(Protocol):
    engine: dict[str, Any]
    """The settings' engine section."""

    def start(self, verb: str, conf: Path, part_s: float) -> subprocess.Popen[bytes]:
        """A driver; a part takes ``part_s`` longer than it would."""

    def workers(self, driver: int) -> list[psutil.Process]:
        """What has, or may have, a partition in hand."""

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        """SIGKILL a worker, or a host with its workers. None: nothing was there to be killed."""


class LocalFleet:
    def __init__(self, workers: int = 2) -> None:
        self.engine: dict[str, Any] = {"name": "local", "workers": workers, "max_attempts": 10}

    def start(self, verb: str, conf: Path, part_s: float) -> subprocess.Popen[bytes]:
        return start_driver(verb, conf, part_s)

    def workers(self, driver: int) -> list[psutil.Process]:
        return worker_processes(driver)

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        return kill_one(self.workers(driver), chance)


class RayFleet:
    """Two nodes of one CPU each beside a head without any; a killed node is replaced."""

    def __init__(self, cluster: RayNodes, workers: int = 2) -> None:
        self.engine: dict[str, Any] = {"name": "ray", "workers": workers, "max_attempts": 10}
        self._cluster = cluster
        self._nodes = [cluster.add(cpus=1) for _ in range(workers)]

    def start(self, verb: str, conf: Path, part_s: float) -> subprocess.Popen[bytes]:
        return start_driver(verb, conf, part_s)

    def workers(self, driver: int) -> list[psutil.Process]:
        return [process for process in descendants(os.getpid()) if title(process).startswith("ray::BackhaulWorker")]

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        if chance.random() > _SHARE_OF_HOSTS:
            return kill_one(self.workers(driver), chance)
        before = self.workers(driver)
        self._cluster.kill(self._nodes.pop(chance.randrange(len(self._nodes))))
        lost = sum(not process.is_running() for process in before)
        self._nodes.append(self._cluster.add(cpus=1))
        return Blow("host", lost)


class SparkFleet:
    """A standalone master with two workers of one core each, which replace a killed executor."""

    def __init__(self, cluster: SparkCluster) -> None:
        self.engine: dict[str, Any] = {
            "name": "spark", "workers": len(cluster.workers), "max_attempts": 10,
            "spark": {"master": cluster.master, "conf": dict(
                line.split(maxsplit=1) for line in cluster.properties.read_text().splitlines())},
        }  # fmt: skip
        self._cluster = cluster

    def start(self, verb: str, conf: Path, part_s: float) -> subprocess.Popen[bytes]:
        return start_driver(verb, conf, part_s, **self._cluster.environment)

    def workers(self, driver: int) -> list[psutil.Process]:
        return [process for worker in self._cluster.workers for process in descendants(worker)
                if "jobs.engines.worker" in title(process)]  # fmt: skip

    def strike(self, driver: int, chance: random.Random) -> Blow | None:
        if chance.random() > _SHARE_OF_HOSTS:
            return kill_one(self.workers(driver), chance)
        if not (executors := self._cluster.executors()):
            return None
        executor = chance.choice(executors)
        lost = sum("jobs.engines.worker" in title(process) for process in descendants(executor.pid))
        executor.kill()
        return Blow("host", lost)


def descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def start_driver(verb: str, conf: Path, part_s: float, **environ: str) -> subprocess.Popen[bytes]:
    command = [*COMMAND, verb, str(conf)]
    if part_s and verb == "embed":
        command = [sys.executable, "-m", "tests.e2e.slow_embed", str(conf), str(part_s)]
    return subprocess.Popen(command, env=environment(environ), stdin=subprocess.DEVNULL,
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


@contextlib.contextmanager
def ray_fleet() -> Iterator[Fleet]:
    with running_ray() as cluster:
        yield RayFleet(cluster)


@contextlib.contextmanager
def spark_fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="spark-") as folder, running_spark(Path(folder), workers=2) as cluster:
        yield SparkFleet(cluster)


FLEETS = {"local": local_fleet, "ray": ray_fleet, "spark": spark_fleet}
_SHARE_OF_HOSTS = 0.2
