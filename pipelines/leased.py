"""A Work under leases: takes the partition's lease, keeps it while the Work runs, releases it. Knows no stage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.digest import canonical_json
from pipelines.errors import Interrupted, LeaseHeld, WorkerDied
from pipelines.leases import End, Lease, Leases, LeaseSettings
from pipelines.owner import this_owner
from pipelines.partition import Partition
from pipelines.receipts import Receipts
from pipelines.store import StorageSettings, Store, open_store

T = TypeVar("T")
Keep = Callable[[Lease, float], AbstractContextManager[None]]


@contextmanager
def kept(lease: Lease, every_s: float) -> Iterator[None]:
    """Renew the lease from a thread until the block ends."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(every_s):
            lease.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)


@contextmanager
def alone(leases: Leases, what: str) -> Iterator[None]:
    """The block under a lease of its own. Raises LeaseHeld while another invocation is in it."""
    lease, end = leases.take(what), "failed"  # type: tuple[Lease, End]
    try:
        with kept(lease, leases.renew_every_s):
            yield
        end = "done"
    except (KeyboardInterrupt, SystemExit):
        end = "interrupted"
        raise
    finally:
        lease.end(end)


@dataclass(frozen=True, slots=True)
class LeasedTask:
    """A Work's class and settings, and under which leases it runs. ``receipts`` and ``leases`` are folders.

    Args:
        max_deaths: workers in a row that may die on a partition, whoever started them, before it is given up;
            None where the engine counts.
        on_demand_after: interruptions after which a partition is marked for on-demand capacity.
        own: what is tried although another invocation failed at it; None: everything.
    """

    work: type[Any]  # a Work; jobs knows that class
    settings: Any
    root: str
    storage: StorageSettings
    receipts: str
    leases: str
    on_demand: str
    invocation: str
    lease: LeaseSettings
    max_deaths: int | None
    on_demand_after: int
    own: Callable[[Partition], bool] | None = None


class LeasedWork:
    """The Work of ``task`` for whoever has the lease; LeaseHeld for everybody else.

    ``store``, ``leases`` and ``keep`` are what the task says; a simulation brings its own.
    """

    def __init__(self, task: LeasedTask, *, store: Store | None = None, leases: Leases | None = None,
                 keep: Keep = kept) -> None:  # fmt: skip
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._task = task
        self._store = store or open_store(task.root, task.storage)
        self._receipts = Receipts(self._store, task.receipts)
        self._leases = leases or Leases(self._store, task.leases, this_owner(task.invocation), task.lease)
        self._keep = keep
        self._work = task.work(task.settings)
        self._lease: Lease | None = None

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Raises LeaseHeld while another invocation has it, WorkerDied when it was given up, and what the Work raises."""
        if receipt := self._receipts.find(partition.id):
            return receipt
        own = self._task.own is None or self._task.own(partition)
        return under_lease(self._leases, partition, self._run, spare_failed=not own,
                           max_deaths=self._task.max_deaths, keep=self._keep)  # fmt: skip

    def abandon(self) -> None:
        """This process is about to end whatever it is doing: let others have the partition at once."""
        if self._lease is not None:
            self._lease.end("interrupted")

    def _run(self, partition: Partition, lease: Lease) -> dict[str, Any]:
        if lease.epoch.interruptions >= self._task.on_demand_after:
            mark = {"partition": partition.id, "interruptions": lease.epoch.interruptions}
            self._store.put(f"{self._task.on_demand}/{partition.id}.json", canonical_json(mark))

        def report(beat: Any) -> None:
            if not getattr(beat, "resumed", False):
                lease.progress()
            self.report(beat)

        self._work.report = report
        self._work.stopping = lambda: self.stopping() or lease.taken_over()
        self._lease = lease
        try:
            receipt: dict[str, Any] = self._work(partition)
            return receipt
        finally:
            self._lease = None


def under_lease(leases: Leases, partition: Partition, call: Callable[[Partition, Lease], T], *,
                spare_failed: bool = False, max_deaths: int | None = None, keep: Keep = kept) -> T:  # fmt: skip
    """``call`` while we hold the partition's lease; however it ends, the lease ends with it.

    Raises:
        LeaseHeld: another invocation holds it, took it over while we ran, or (``spare_failed``) failed at it.
        WorkerDied: the last ``max_deaths`` workers died on it without finishing anything.
    """
    lease = leases.take(partition.id, spare_failed=spare_failed)
    end: End = "failed"
    try:
        if max_deaths is not None and lease.epoch.deaths >= max_deaths:
            raise WorkerDied(
                f"partition {partition.number} ({partition.id[:12]}) lost its worker {lease.epoch.deaths} times in a row "
                "without finishing a part; memory is the usual cause. Then: backhaul retry CONF"
            )
        with keep(lease, leases.renew_every_s):
            result = call(partition, lease)
        end = "done"
        return result
    except Interrupted:
        end = "interrupted"
        if lease.lost:
            raise LeaseHeld(f"partition {partition.id[:12]} was taken over by another", retry_after_s=1.0) from None
        raise
    except Exception:
        raise
    except BaseException:
        end = "interrupted"
        raise
    finally:
        lease.end(end)
