"""Which partition comes next, which must wait for another's lease, and when one is given up. Knows no processes."""

from __future__ import annotations

import heapq
import logging
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from jobs.engines.engine import Failed, Left
from pipelines.clock import SYSTEM, Clock
from pipelines.partition import Partition

log = logging.getLogger(__name__)
DIED = "worker died"
_ASK_EVERY_S = 1.0  # of all that is held, one at a time: a thousand idle drivers must not storm the store
ADVICE = "the system's log may say why (memory is the usual cause). Then: backhaul retry CONF"


class Pending:
    """The partitions of one run of an engine that have no outcome and are in no worker's hand.

    ``batches`` gives them in another order, or fewer: the first at once, the next when nothing is ready any more.
    """

    def __init__(self, partitions: Sequence[Partition], max_attempts: int, clock: Clock = SYSTEM, *,
                 batches: Iterable[Sequence[Partition]] | None = None) -> None:  # fmt: skip
        self._clock = clock
        self.total = len(partitions)
        self.attempts: Counter[str] = Counter()
        self._max_attempts = max_attempts
        self._batches = iter([partitions] if batches is None else batches)
        self._ready = deque(next(self._batches, ()))
        self._held: list[tuple[float, int, Partition, str]] = []  # a heap by when to ask again

    def __len__(self) -> int:
        """0 when nothing is left to be handed out; what no batch has brought yet is not counted."""
        return self.ready + len(self._held)

    @property
    def ready(self) -> int:
        """How many can be handed out now."""
        now = self._clock.monotonic()
        while self._held and self._held[0][0] <= now:
            self._ready.append(heapq.heappop(self._held)[2])
        while not self._ready and (batch := next(self._batches, None)) is not None:
            self._ready.extend(batch)
        return len(self._ready)

    @property
    def wait_s(self) -> float | None:
        """Seconds until one can be handed out; None when nothing waits, or something is ready."""
        if self.ready or not self._held:
            return None
        return max(0.0, self._held[0][0] - self._clock.monotonic())

    def take(self) -> Partition:
        return self._ready.popleft()

    def put_back(self, partition: Partition) -> None:
        """Its host is going away: next in line again, and no attempt is counted."""
        self._ready.appendleft(partition)

    def hold(self, partition: Partition, after_s: float, message: str) -> Left | None:
        """Another invocation has it: to be asked for again after a while, which grows with how many are held, or
        left to it when ``after_s`` is infinite."""
        if after_s == math.inf:
            return Left(partition, message)
        after_s = max(after_s, len(self._held) * _ASK_EVERY_S)
        log.info("%s; asking again in %.1f s", message, after_s)
        heapq.heappush(self._held, (self._clock.monotonic() + after_s, partition.number, partition, message))
        return None

    def died(self, partition: Partition, end: str) -> Failed | None:
        """Its worker died: next in line again, or given up after its last attempt."""
        self.attempts[partition.id] += 1
        attempts = self.attempts[partition.id]
        log.warning("worker died (%s) on partition %d, attempt %d", end, partition.number, attempts)
        if attempts < self._max_attempts:
            self._ready.appendleft(partition)
            return None
        message = f"partition {partition.number} ({partition.id[:12]}) lost its worker {attempts} times, the last {end}"
        return Failed(partition, DIED, f"{message}; {ADVICE}", 1, attempts)

    def failed(self, partition: Partition, cause: str, message: str, exit_code: int) -> Failed:
        """An error of the Work, which no other attempt would mend."""
        return Failed(partition, cause, message, exit_code, self.attempts[partition.id] + 1)

    def give_up(self, cause: str, message: str, exit_code: int) -> list[Failed]:
        """Nothing more can be done: all that is here fails."""
        left = [*self._ready, *(held[2] for held in self._held)]
        self.clear()
        return [Failed(partition, cause, message, exit_code, self.attempts[partition.id]) for partition in left]

    def leave(self) -> list[Left]:
        """What others hold is left to them."""
        left = [Left(partition, message) for _, _, partition, message in self._held]
        self._held.clear()
        return left

    def clear(self) -> None:
        self._batches = iter(())
        self._ready.clear()
        self._held.clear()
