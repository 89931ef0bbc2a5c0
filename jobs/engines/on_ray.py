"""The Ray engine: a pool of actors on a Ray cluster, each with one Work, as many as the cluster can place.

The crew keeps the order and the attempts; Ray places actors, ends them, and notices their death. Knows nothing of what a
Work does. The driver, and the cluster's head, are single points: losing one leaves a run that resumes.
"""

from __future__ import annotations

import logging
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from jobs.engines.crew import Crew
from jobs.engines.engine import Beat, EngineSettings, Outcome, WorkSpec
from jobs.engines.pending import Pending
from jobs.engines.ray_cluster import (
    connect,
    draining_nodes,
    end_of,
    living_nodes,
    require_ray,
    resources_text,
    start_error,
)
from jobs.engines.stop import StopSignals, grace_within
from jobs.engines.worker import Answer, Fault, Hello, Stop, Stopped
from pipelines.errors import BackhaulError
from pipelines.partition import Partition

S = TypeVar("S")
log = logging.getLogger(__name__)
_TICK_S = 0.2  # how long a signal may go unheard: no wait of Ray's ends when one comes
_LOOK_S = 2.0  # how often the nodes are looked at
_PATIENCE_S = 10.0  # until something is said of workers that are not placed


class RayEngine:
    """Up to ``settings.workers`` actors; those that do not fit wait for room, which an autoscaler sees."""

    def __init__(self, settings: EngineSettings) -> None:
        """Raises SettingsError when Ray is not installed."""
        require_ray()
        self._settings = settings

    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Generator[Outcome]:  # fmt: skip
        """One outcome per partition. Closing the iterator kills the actors.

        Raises:
            Interrupted: told to stop by SIGINT or SIGTERM; what was yielded before is done.
            BackhaulError: the cluster cannot be joined, or has had no room for any worker for too long.
        """
        if not partitions:
            return
        settings = self._settings
        pending = Pending(partitions, settings.max_attempts)
        count = settings.workers if workers is None else min(workers, settings.workers)
        crew = Crew(_Actors(spec, settings), pending, count, settings, on_beat)
        try:
            with StopSignals(on_second=crew.kill, stop_on_rebalance=settings.stop_on_rebalance) as stop:
                connect(settings.ray, stop.wake)
                yield from crew.outcomes(stop)
        finally:
            crew.disband()


class _Actor:
    """One worker of the crew: an actor, which is placed when there is room.

    One call to it is always under way, which waits for answers; so its death is heard at once, whatever it was doing.
    """

    def __init__(self, handle: Any, on_word: Callable[[_Actor, Any], Answer | None]) -> None:  # Any: Ray's ActorHandle
        self.ready = False
        self.partition: Partition | None = None
        self.node: str | None = None  # None: not placed yet
        self.listening = handle.listen.remote()
        self._handle = handle
        self._on_word = on_word
        self._answers: deque[Answer] = deque()
        self._gone: str | None = None
        self._killed = False

    @property
    def talks(self) -> bool:
        return bool(self._answers) or self._gone is not None or self._killed

    def send(self, message: Partition | Stop | None) -> None:
        if isinstance(message, Partition):
            self._handle.hand.remote(pickle.dumps(message))
        elif isinstance(message, Stop):
            self._handle.stop.remote(message.grace_s)
        else:
            self.kill()

    def recv(self) -> Answer:
        if self._killed or not self._answers:
            raise EOFError
        return self._answers.popleft()

    def kill(self) -> None:
        """Marked alone: a signal's handler may have interrupted a call of Ray's. Its end does it."""
        self._killed = True

    def end(self) -> str:
        import ray

        ray.kill(self._handle)  # also one that is out of reach alone: it must not come back
        return self._gone or "killed by the driver"

    def hear(self) -> None:
        """Take what ``listening`` has brought, and listen on."""
        import ray

        try:
            said = [pickle.loads(answer) for answer in ray.get(self.listening)]  # noqa: S301  # from our own actor
            self.listening = self._handle.listen.remote()
        except ray.exceptions.RayError as error:
            self._gone = end_of(error)
            said = [error]
        self._answers += [answer for word in said if (answer := self._on_word(self, word)) is not None]


class _Actors:
    """The staff of a cluster: places actors away from nodes that are about to go, and looks after those not placed."""

    def __init__(self, spec: WorkSpec[Any], settings: EngineSettings) -> None:
        self._hello = Hello(pickle.dumps(spec), logging.getLogger().getEffectiveLevel())
        self._settings = settings
        self._leaving: set[str] = set()  # nodes that are drained, or whose host said that it goes away
        self._looked_at = 0.0
        self._placed_at: float | None = None  # when any worker was last seen on a node
        self._patient_since: float | None = None  # since when some are not, or that was last said
        self._said: tuple[int, int] | None = None

    def hire(self) -> _Actor:
        s = self._settings
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(self._leaving))})"} if self._leaving else None
        handle = self._remote.options(label_selector=elsewhere).remote(
            self._hello, sys.path, s.grace_s, s.stop_on_rebalance
        )
        return _Actor(handle, self._take_word)

    @cached_property
    def _remote(self) -> Any:  # Any: Ray's ActorClass
        import ray

        from jobs.engines.ray_worker import BackhaulWorker

        asked = self._settings.ray
        return ray.remote(num_cpus=asked.cpus_per_worker, num_gpus=asked.gpus_per_worker, max_restarts=0,
                          max_concurrency=BackhaulWorker.CALLS)(BackhaulWorker)  # fmt: skip

    def wait(self, workers: Sequence[_Actor], wake: Connection, timeout_s: float | None) -> list[_Actor]:
        import ray

        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not (talking := [worker for worker in workers if worker.talks]):
            left_s = _TICK_S if until is None else min(_TICK_S, until - time.monotonic())
            if left_s <= 0 or wake.poll(0 if workers else left_s):
                break
            self._look_after(workers)
            listening = {worker.listening: worker for worker in workers}
            if listening and ray.wait([*listening], timeout=left_s)[0]:
                for ref in ray.wait([*listening], num_returns=len(listening), timeout=0)[0]:
                    listening[ref].hear()
        return talking

    def _take_word(self, worker: _Actor, word: Any) -> Answer | None:  # Any: an answer, a word of its own, a RayError
        """What the crew must know of it."""
        from jobs.engines.ray_worker import Leaving, Placed

        if isinstance(word, Placed):
            worker.node = word.node
        elif isinstance(word, Leaving) and worker.node:
            log.warning("a worker finishes the part in hand and moves from node %s: %s", worker.node, word.detail)
            self._leaving.add(worker.node)
        elif not isinstance(word, Exception):
            answer: Answer = word
            return answer
        elif worker.node in self._leaving or getattr(word, "preempted", False):
            return Stopped()  # gone with a node of which that was known
        elif reason := start_error(word):
            cause = reason.partition(":")[0]
            advice = "install this version of Backhaul with its requirements in the image of every node"
            return Fault(cause, f"a worker cannot start on the cluster's nodes ({reason}); {advice}", 1)
        return None

    def _look_after(self, workers: Sequence[_Actor]) -> None:
        """Now and then: which nodes are drained, and who is not placed.

        Raises:
            BackhaulError: nobody was for ``placement_timeout_s``.
        """
        now, placed = time.monotonic(), sum(worker.node is not None for worker in workers)
        if placed or not workers or self._placed_at is None:
            self._placed_at = now
        if placed == len(workers) or self._patient_since is None:
            self._patient_since, self._said = now, None
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        self._heed_drains(workers)
        asked = self._settings.ray
        if now - self._placed_at > asked.placement_timeout_s:
            raise BackhaulError(
                f"no worker could be placed in {asked.placement_timeout_s:g} s: {asked.text()}, and the cluster has "
                f"{resources_text()}. `ray status` tells who has them. Free some, or ask for less with "
                "--set engine.ray.cpus_per_worker=N --set engine.ray.gpus_per_worker=N, and run the same command again"
            )
        patience_s = min(_PATIENCE_S, asked.placement_timeout_s / 2)
        if now - self._patient_since > patience_s and self._said != (placed, len(workers)):
            self._patient_since, self._said = now, (placed, len(workers))
            log.warning("%d of %d workers are placed, the others start or wait for room: %s, and the cluster has %s",
                        placed, len(workers), asked.text(), resources_text())  # fmt: skip

    def _heed_drains(self, workers: Sequence[_Actor]) -> None:
        draining = draining_nodes()
        for node in draining.keys() - self._leaving:
            there = [worker for worker in workers if worker.node == node]
            log.warning("node %s is drained: %d workers there finish the part in hand and move", node, len(there))
            for worker in there:
                worker.send(Stop(grace_within(self._settings.grace_s, draining[node])))
        self._leaving |= draining.keys()
        if self._leaving:
            self._leaving &= living_nodes(otherwise=self._leaving)
