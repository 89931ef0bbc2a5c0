"""The actor's side of the Ray engine: a worker's inside (WorkerLoop) behind remote calls, and the notices of its host.

Knows nothing of the other actors, of placement or of retrying.
"""

from __future__ import annotations

import pickle
import queue
import sys
import threading
from dataclasses import dataclass

import ray

from jobs.engines.notice import Notice, SpotWatch
from jobs.engines.stop import grace_within
from jobs.engines.worker import Answer, Hello, Stopped, WorkerLoop, fault_of


@dataclass(frozen=True, slots=True)
class Placed:
    """The first word of an actor: it runs, on this node."""

    node: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """Its host goes away: it finishes the part in hand, and takes nothing more."""

    detail: str


class BackhaulWorker:
    """``listen`` waits for answers in a thread of the actor while ``hand`` and ``stop`` bring orders in others; the Work
    has its own. The name is what Ray shows in its lists and before each line of its log."""

    CALLS = 3  # of listen, hand and stop, each at most one at a time

    def __init__(self, hello: Hello, paths: list[str], grace_s: float, stop_on_rebalance: bool) -> None:
        """``paths`` are the driver's places to import from; what this node lacks does no harm."""
        sys.path.extend(path for path in paths if path not in sys.path)
        self._mail: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._grace_s = grace_s
        self._loop = WorkerLoop(self._post, abandoned=lambda: self._post(Stopped()))
        self._post(Placed(ray.get_runtime_context().get_node_id()))
        self._watch = SpotWatch(self._leave, rebalance=stop_on_rebalance)
        self._watch.__enter__()
        threading.Thread(target=self._loop.serve, args=(hello,), name="work", daemon=True).start()

    def listen(self) -> list[bytes]:
        """The answers since the last call, pickled; waits for the first."""
        answers = [self._mail.get()]
        while not self._mail.empty():
            answers.append(self._mail.get())
        return answers

    def hand(self, partition: bytes) -> None:
        try:
            self._loop.hand(pickle.loads(partition))  # noqa: S301  # from our own driver
        except Exception as error:  # another version of the project here: the driver must hear of it
            self._post(fault_of(error))

    def stop(self, grace_s: float) -> None:
        self._loop.stop(grace_s)

    def _leave(self, notice: Notice) -> None:
        self._post(Leaving(notice.detail))
        self._loop.stop(grace_within(self._grace_s, notice.deadline_s))

    def _post(self, answer: Answer | Placed | Leaving) -> None:
        """Raises for what cannot be pickled, here, where it can still become a failure of its partition."""
        self._mail.put(pickle.dumps(answer))
