"""Drivers with workers and children of an array: what starts, hands out, replaces, resumes and gives up.

As the engines do it, over the engines' own order of what is pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.engines.engine import Failed
from jobs.engines.pending import DIED, Pending
from pipelines.errors import BackhaulError, Interrupted, LeaseHeld, WorkerDied
from pipelines.leased import LeasedWork
from pipelines.manifest import create_manifest, in_plan_order, read_manifest
from pipelines.partition import Partition
from pipelines.receipts import Receipts, embed_receipts
from pipelines.store import Store
from tests.simulation.corpus import RUN, manifest_of, pending
from tests.simulation.lease_invariants import MAX_DEATHS
from tests.simulation.scheduler import Host, Killed, Process
from tests.simulation.work import Place, leased_work

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_LEAVE_AFTER_S = 120.0  # a child with nothing to do but what others hold ends after so long
_NOTICE_S = 1.0
_LOOK_S = 2.0  # how often somebody looks what became of the others' work


class Invocation:
    """One command: reads what is committed, has the rest done, and creates the manifest when all is.

    ``outcome`` is None while it runs, then "done", "failed", "left", "interrupted" or "died".
    """

    def __init__(self, simulation: Simulation, name: str, host: Host) -> None:
        self.name = name
        self.outcome: str | None = None
        self.stopping = False
        self.simulation = simulation
        self.main = simulation.process(name, host, name)
        self.main.on_death = self._died
        self.pending = Pending((), MAX_DEATHS, self.main)
        self._in_hand: dict[Process, tuple[LeasedWork, Partition]] = {}
        self.given_up: list[Partition] = []
        self.left = 0  # partitions that are left to others
        self._failures = 0

    def __repr__(self) -> str:
        return self.name

    def start(self) -> None:
        self.simulation.scheduler.start(self.main, self._command)

    def stop(self) -> None:
        """SIGTERM: finish the part in hand within the grace, else abandon it."""
        if self.outcome is None and not self.stopping:
            self.simulation.scheduler.say(self.name, "is told to stop")
            self.simulation.leases.wasted.append(f"{self.name} stopped")
            self.stopping = True
            self.simulation.scheduler.after(self.simulation.world.grace_s, self._abandon)

    def _command(self) -> None:
        store = Place(self.simulation, self.main).store
        receipts = embed_receipts(store, RUN)
        outcome = "done"
        try:
            if read_manifest(store, RUN) is None:
                todo = pending(len(self.simulation.world.parts), frozenset(receipts.committed()))
                if todo:
                    outcome = self._do(todo)
                if outcome != "interrupted":
                    self._commit(store, receipts)
        except BackhaulError as error:
            if outcome == "done":  # else it is known that something is not
                self.simulation.invariants.failed(self.main, "the command", error)
                outcome = "failed"
        self._ends(outcome)

    def _commit(self, store: Store, receipts: Receipts) -> None:
        """Whoever sees the last receipt creates the manifest. Raises BackhaulError where one is missing."""
        committed = receipts.committed()
        ids = [partition.id for partition in self.simulation.partitions if partition.id in committed]
        found = {one: receipt for one in ids if (receipt := receipts.find(one))}
        create_manifest(store, manifest_of(in_plan_order(self.simulation.partitions, found)))

    def _do(self, todo: Sequence[Partition]) -> str:
        """Everything that is pending; what became of it as an outcome."""
        raise NotImplementedError

    def _ends(self, outcome: str) -> None:
        self.simulation.scheduler.say(self.name, f"ends: {outcome}")
        self.outcome = outcome
        self.simulation.ended(self)

    def at(self, partition: Partition) -> list[Process]:
        """Who has it in hand."""
        return [process for process, (_, other) in self._in_hand.items() if other == partition and not process.dead]

    def _outcome(self) -> str:
        if self.stopping:
            return "interrupted"
        return "failed" if self._failures else "left" if self.left else "done"

    def _one(self, work: LeasedWork, process: Process) -> bool:
        """One partition that is ready, whatever becomes of it. False when the work was interrupted."""
        partition = self.pending.take()
        self._in_hand[process] = work, partition
        invariants, leases = self.simulation.invariants, self.simulation.leases
        try:
            invariants.answered(process, partition.id, work(partition))
        except LeaseHeld as error:
            if "taken over" not in str(error):
                leases.held(process, partition.id, error.retry_after_s)
            self.left += self.pending.hold(partition, error.retry_after_s, str(error)) is not None
        except Interrupted:
            leases.released(process, partition.id)
            return False
        except WorkerDied as error:
            leases.given_up(process, partition.id)
            self._failed(self.pending.failed(partition, DIED, str(error), 1))
        except BackhaulError as error:
            invariants.failed(process, f"partition {partition.number}", error)
            self._failed(self.pending.failed(partition, type(error).__name__, str(error), 1))
        leases.released(process, partition.id)
        del self._in_hand[process]
        return True

    def _failed(self, failed: Failed) -> None:
        self._failures += 1
        if failed.cause == DIED:
            self.given_up.append(failed.partition)
            self.simulation.given_up(failed.partition)

    def _abandon(self) -> None:
        """Those that are still at it release their lease and end."""
        for process, (work, _) in list(self._in_hand.items()):
            if not process.dead:
                self.simulation.scheduler.start(process, lambda process=process, work=work: _leave(process, work))  # type: ignore[misc]

    def _died(self) -> None:
        self.simulation.leases.wasted.append(f"{self.name} died")
        if self.outcome is None:
            self._ends("died")


def _leave(process: Process, work: LeasedWork) -> None:
    work.abandon()
    process.kill()
    raise Killed


class Driver(Invocation):
    """Workers in processes of their own, replaced when they die."""

    def __init__(self, simulation: Simulation, name: str, host: Host, workers: int) -> None:
        super().__init__(simulation, name, host)
        self._workers = workers
        self._made = 0

    def _do(self, todo: Sequence[Partition]) -> str:
        self.pending = Pending(todo, MAX_DEATHS, self.main)
        for _ in range(min(self._workers, len(todo))):
            self._add_worker()
        while (self.pending or self._in_hand) and not self.stopping:
            self.main.sleep(_LOOK_S)
        if self.stopping:
            deadline = self.main.monotonic() + self.simulation.world.grace_s + 2.0
            while self._in_hand and self.main.monotonic() < deadline:
                self.main.sleep(0.5)
            for process in list(self._in_hand):
                process.kill()
        return self._outcome()

    def _add_worker(self) -> None:
        self._made += 1
        host = self.simulation.random.choice(self.simulation.hosts)
        process = self.simulation.process(f"{self.name}/{self._made}", host, self.name)
        process.on_death = lambda: self._worker_died(process)
        self.simulation.scheduler.start(process, lambda: self._serve(process), after_s=0.3)

    def _serve(self, process: Process) -> None:
        work = leased_work(Place(self.simulation, process))
        work.stopping = lambda: self.stopping
        while not self.stopping and (self.pending or self._in_hand):
            if self.pending.ready:
                if not self._one(work, process):
                    self._in_hand.pop(process, None)
                    return
            else:
                process.sleep(min(_LOOK_S, self.pending.wait_s or _LOOK_S))

    def _worker_died(self, process: Process) -> None:
        self.simulation.leases.wasted.append(f"{process} died")
        if self.outcome is None and not self.stopping and not self.main.dead:
            self.simulation.scheduler.after(_NOTICE_S, lambda: self._replace(process))
        else:
            self._in_hand.pop(process, None)

    def _replace(self, process: Process) -> None:
        if self.outcome is not None or self.main.dead:
            return
        _, partition = self._in_hand.pop(process, (None, None))
        if partition and (failed := self.pending.died(partition, "killed")):
            self._failed(failed)
        self._add_worker()

    def _died(self) -> None:
        """Its workers find their pipes at their end and end, or they are left over."""
        super()._died()
        for process in list(self.simulation.of_invocation(self.name)):
            if process is not self.main and self.simulation.random.random() >= self.simulation.world.orphans:
                self.simulation.scheduler.after(self.simulation.random.random(), process.kill)


class Child(Invocation):
    """Child ``index`` of an array of ``of``: its share first, then whatever is pending, all in its own process."""

    def __init__(self, simulation: Simulation, name: str, host: Host, index: int = 0, of: int = 1) -> None:
        super().__init__(simulation, name, host)
        self.share = index, of

    def _do(self, todo: Sequence[Partition]) -> str:
        share, others = [one for one in todo if self._owns(one)], [one for one in todo if not self._owns(one)]
        self.pending = Pending(todo, MAX_DEATHS, self.main, batches=[share, others])
        work = leased_work(Place(self.simulation, self.main), self._owns)
        work.stopping = lambda: self.stopping
        idle_since: float | None = None
        while self.pending and not self.stopping:
            if not self.pending.ready:
                idle_since = idle_since or self.main.monotonic()
                if self.main.monotonic() - idle_since > _LEAVE_AFTER_S:
                    self.left += len(self.pending.leave())
                    break
                self.main.sleep((self.pending.wait_s or 0.0) + 0.01)
                continue
            before = len(self.pending)
            if not self._one(work, self.main):
                self._in_hand.clear()
                break
            if len(self.pending) < before:
                idle_since = None
        return self._outcome()

    def _owns(self, partition: Partition) -> bool:
        index, of = self.share
        return partition.number % of == index
