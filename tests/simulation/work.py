"""The embed stage's Work with its expensive insides replaced: the line of a partition, over parts of a few bytes.

Finding, beginning, writing and committing parts is the protocol's own; so is who may work on what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.checkpoint import Checkpoint
from pipelines.errors import Interrupted
from pipelines.leased import LeasedTask, LeasedWork
from pipelines.leases import Lease, Leases
from pipelines.owner import Machine, Owner
from pipelines.partition import Partition
from pipelines.receipts import embed_receipts
from pipelines.rejects import Rejects
from pipelines.store import ObjectStore, StorageSettings
from tests.simulation.corpus import REJECT, REJECTING, RUN, is_expected, part_bytes, part_json, receipt_json
from tests.simulation.lease_invariants import MAX_DEATHS, ON_DEMAND_AFTER
from tests.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


@dataclass(frozen=True, slots=True)
class Beat:
    resumed: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A process, and the simulation that it is in."""

    simulation: Simulation
    process: Process

    @property
    def store(self) -> ObjectStore:
        return self.simulation.store(self.process)

    @property
    def machine(self) -> Machine:
        is_dead = partial(self.simulation.is_dead, self.process.host)
        return Machine(self.process, is_dead, self.simulation.new_token, self.process.new_lock)

    @property
    def owner(self) -> Owner:
        process = self.process
        return Owner(process.invocation, process.host.name, process.host.name, process.pid, process.began_s)

    def leases(self, store: ObjectStore) -> Leases:
        folder = embed_receipts(store, RUN).leases
        return Leases(store, folder, self.owner, self.simulation.world.lease, self.machine)


class SimulatedWork:
    """What pipelines.embed.work does with one partition, but for reading and embedding."""

    def __init__(self, place: Place) -> None:
        self.report: Callable[[Beat], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._place = place
        self._store = place.store
        self._receipts = embed_receipts(self._store, RUN)

    def __call__(self, partition: Partition) -> dict[str, Any]:
        if receipt := self._receipts.find(partition.id):
            return receipt
        simulation, process = self._place.simulation, self._place.process
        rejects = Rejects()
        if partition.number == REJECTING:
            rejects.add(REJECT, None)
        checkpoint = Checkpoint(self._store, RUN, partition.id, self._receipts, self._place.machine)
        parts: list[dict[str, Any]] = []
        for number in range(simulation.world.parts[partition.number]):
            if self.stopping():
                raise Interrupted(f"partition {partition.id} stopped before part {number}")
            earlier = checkpoint.find(number, partial(_recognise, partition=partition, number=number))
            parts.append(earlier or self._make(partition, number, checkpoint))
            self.report(Beat(resumed=earlier is not None))
            if earlier is None:
                simulation.leases.progressed(process, partition.id)
        file = rejects.write(self._store, RUN, "embed", partition.id)
        named = [(part["number"], part["sha256"]) for part in parts]
        return checkpoint.commit(receipt_json(partition, parts, file), named, file)

    def _make(self, partition: Partition, number: int, checkpoint: Checkpoint) -> dict[str, Any]:
        checkpoint.begin(number)
        self._place.simulation.compute(self._place.process, partition, number)
        data = part_bytes(partition.id, number, self._place.simulation.maker(self._place.process))
        checkpoint.write(number, data)
        return part_json(number, data)


def _recognise(data: bytes, partition: Partition, number: int) -> dict[str, Any] | None:
    return part_json(number, data) if is_expected(data, partition.id, number) else None


def leased_work(place: Place, own: Callable[[Partition], bool] | None = None) -> LeasedWork:
    """As a worker builds it, or a child of an array whose ``own`` share this is and for whom no driver counts deaths."""
    store, process = place.store, place.process
    receipts = embed_receipts(store, RUN)
    task = LeasedTask(
        work=SimulatedWork, settings=place, root="", storage=StorageSettings(), receipts=receipts.folder,
        leases=receipts.leases, on_demand=receipts.on_demand, invocation=process.invocation,
        lease=place.simulation.world.lease, max_deaths=MAX_DEATHS if own else None,
        on_demand_after=ON_DEMAND_AFTER, own=own)  # fmt: skip
    return LeasedWork(task, store=store, leases=place.leases(store), keep=partial(_kept, process))


@contextmanager
def _kept(process: Process, lease: Lease, every_s: float) -> Iterator[None]:
    """As ``pipelines.leased.kept``, in simulated threads."""
    over = busy = False

    def renew() -> None:
        nonlocal busy
        process.sleep(every_s)
        while not over:
            busy = True
            lease.renew()
            busy = False
            process.sleep(every_s)

    process.scheduler.start(process, renew)
    try:
        yield
    finally:
        over = True
        deadline = process.monotonic() + every_s
        while busy and process.monotonic() < deadline:
            process.sleep(0.05)
