"""A command that is killed at a moment: when the proxy sees a certain request of it, or some time after its n-th.

Knows what a command asks of OpenSearch in which stage; starts it and kills it. Knows no corpus and checks nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tests.e2e.command import COMMAND, environment, worker_processes
from tests.fixtures.faulty_opensearch import Act, Forward, Request, Reset

Stage = Literal["load", "merge", "restore", "verify", "release", "rollback"]
Victim = Literal["group", "driver", "worker"]
# Of the request at which the kill comes: the node never sees it, sees it from a dead client, or has answered nobody.
When = Literal["unseen", "orphaned", "answered"]
GIVE_UP_S = 120.0
_FIRST: dict[str, Stage] = {"load": "load", "run": "load", "verify": "verify", "release": "release",
                            "rollback": "rollback"}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A kind of request: words that its path and its body hold, and how often a stage has it at least."""

    method: str
    path: str
    body: bytes = b""
    times: int = 1

    def matches(self, request: Request) -> bool:
        return request.method == self.method and self.path in request.path and self.body in request.body


_REFRESH_OFF, _REFRESH_ON = b'"refresh_interval":"-1"', b'"refresh_interval":null'
ASKED: dict[Stage, list[Asked]] = {
    "load": [Asked("PUT", "", b'"mappings"'), Asked("PUT", "/_settings", _REFRESH_OFF), Asked("POST", "/_bulk", times=4)],
    "merge": [Asked("POST", "/_refresh"), Asked("POST", "/_forcemerge")],
    "restore": [Asked("PUT", "/_settings", b'{"index":{"number_of_replicas"'), Asked("GET", "/warmup/"),
                Asked("PUT", "/_settings", _REFRESH_ON), Asked("POST", "/_search", b'"composite"')],
    "verify": [Asked("POST", "/_search/point_in_time", times=4), Asked("POST", "/_search?", b'"pit"', times=4),
               Asked("POST", "/_msearch", times=2)],
    "release": [Asked("POST", "/_aliases")],
    "rollback": [Asked("POST", "/_aliases")],
}  # fmt: skip
# What a load that begins again on a finished generation asks before its merge.
ASKED_AGAIN = [Asked("PUT", "/_settings", _REFRESH_OFF), Asked("POST", "/_search", b'"track_total_hits"', times=1)]


@dataclass(frozen=True)
class Moment:
    """``asked`` for the ``nth`` time; or, without it, ``jitter_s`` after the ``nth`` request of any kind."""

    asked: Asked | None
    nth: int
    when: When
    victim: Victim
    jitter_s: float = 0.0


class Executioner:
    """A rule for the proxy. ``stage`` is what the command is in, by its requests so far."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._moment: Moment | None = None
        self._strike: Callable[[], None] = lambda: None
        self.stage: Stage = "load"
        self.stage_of_kill: Stage | None = None
        self.requests = 0

    def begin(self, verb: str, moment: Moment | None = None, strike: Callable[[], None] = lambda: None) -> None:
        with self._turn:
            self._moment, self._strike = moment, strike
            self._left = moment.nth if moment else 0
            self.stage, self.stage_of_kill, self.requests = _FIRST[verb], None, 0

    def end(self) -> None:
        with self._turn:
            self._moment = None

    def __call__(self, request: Request) -> Act | None:
        with self._turn:
            self.requests += 1
            self.stage = _stage_after(self.stage, request)
            moment = self._moment
            if moment is None or (moment.asked and not moment.asked.matches(request)):
                return None
            self._left -= 1
            if self._left > 0:
                return None
            self._moment, self.stage_of_kill = None, self.stage
        return self._kill_at(moment)

    def _kill_at(self, moment: Moment) -> Act | None:
        if moment.asked is None:
            threading.Thread(target=self._kill_later, args=(moment.jitter_s,)).start()
            return None
        if moment.when == "answered":
            return Forward(then="lose", done=self._strike)
        self._strike()
        # A request that a dead client had sent is carried out all the same.
        return Reset() if moment.when == "unseen" else Forward(then="lose")

    def _kill_later(self, jitter_s: float) -> None:
        time.sleep(jitter_s)
        self.stage_of_kill = self.stage
        self._strike()


def _stage_after(stage: Stage, request: Request) -> Stage:
    if stage == "load" and any(asked.matches(request) for asked in ASKED["merge"]):
        return "merge"
    if stage == "merge" and any(asked.matches(request) for asked in ASKED["restore"]):
        return "restore"
    if stage in ("load", "restore") and "/point_in_time" in request.path:
        return "verify"
    if stage in ("restore", "verify") and ASKED["release"][0].matches(request):
        return "release"
    return stage


@dataclass(frozen=True)
class Killed:
    """``stage`` None: the command had ended before its moment. ``code`` is that of a command that outlived a worker."""

    stage: Stage | None
    code: int | None
    err: str


def kill_at(executioner: Executioner, moment: Moment, words: list[str | Path], chance: random.Random) -> Killed:
    """Start ``backhaul WORDS``, kill it or one of its workers at the moment, and wait for its end."""
    command = [*COMMAND, *map(str, words)]
    ready = threading.Event()
    processes: list[subprocess.Popen[bytes]] = []

    def strike() -> None:
        ready.wait(GIVE_UP_S)
        (process,) = processes
        workers = worker_processes(process.pid)
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if moment.victim == "worker" and workers:
                chance.choice(workers).kill()
            elif moment.victim == "driver":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)

    executioner.begin(str(words[0]), moment, strike)
    with tempfile.TemporaryFile("w+") as err:  # no pipe: the workers of a dead driver would keep it open
        process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=err, start_new_session=True)  # fmt: skip
        processes.append(process)
        ready.set()
        try:
            process.wait(GIVE_UP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            executioner.end()
        err.seek(0)
        said = err.read()
    died = process.returncode < 0
    stage = executioner.stage_of_kill if died or moment.victim == "worker" else None
    return Killed(stage, None if died else process.returncode, said)
