"""A Work under leases: taken before, kept while it runs, released however it ends; given up after deaths in a row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines.errors import Interrupted, LeaseHeld, SourceChanged, WorkerDied
from pipelines.leased import LeasedTask, LeasedWork, kept, under_lease
from pipelines.leases import Epoch, Lease, Leases, LeaseSettings
from pipelines.owner import Owner
from pipelines.partition import Partition
from pipelines.receipts import Receipts
from pipelines.store import ObjectStore, StorageSettings, open_store

PARTITION = Partition("p" * 32, 4, (), ())
SETTINGS = LeaseSettings()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return open_store(f"memory://{request.node.name}")


def leases_of(store: ObjectStore, invocation: str, settings: LeaseSettings = SETTINGS) -> Leases:
    return Leases(store, "runs/r/leases/embed", Owner(invocation, f"host of {invocation}", "a name", 7, 1.0), settings)


def newest(store: ObjectStore) -> Epoch:
    epoch = leases_of(store, "reader").newest(PARTITION.id)
    assert epoch is not None
    return epoch


@contextmanager
def unkept(lease: Lease, every_s: float) -> Iterator[None]:
    yield


def test_the_lease_ends_as_done_and_the_result_is_given(store: ObjectStore) -> None:
    assert under_lease(leases_of(store, "a"), PARTITION, lambda partition, lease: partition.number) == 4
    assert newest(store).ended == "done"


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (SourceChanged("gone"), "failed"),
        (ZeroDivisionError(), "failed"),
        (Interrupted("told to"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_lease_ends_as_its_block_did(store: ObjectStore, error: BaseException, ended: str) -> None:
    def fails(partition: Partition, lease: Lease) -> None:
        raise error

    with pytest.raises(type(error)):
        under_lease(leases_of(store, "a"), PARTITION, fails)
    assert newest(store).ended == ended


def test_what_another_holds_is_not_run(store: ObjectStore) -> None:
    leases_of(store, "a").take(PARTITION.id)
    with pytest.raises(LeaseHeld):
        under_lease(leases_of(store, "b"), PARTITION, lambda partition, lease: pytest.fail("ran"))


def test_after_so_many_deaths_it_is_given_up_by_everybody_and_stays_so(store: ObjectStore) -> None:
    for _ in range(3):
        leases_of(store, "a").take(PARTITION.id)
    for _ in range(2):
        with pytest.raises(WorkerDied, match=r"partition 4 \(pppppppppppp\) lost its worker 3 times.*backhaul retry"):
            under_lease(leases_of(store, "a"), PARTITION, lambda p, lease: pytest.fail("ran"), max_deaths=3)
    leases_of(store, "a").clear(PARTITION.id)
    assert under_lease(leases_of(store, "b"), PARTITION, lambda partition, lease: "ran", max_deaths=3) == "ran"


def test_who_stopped_because_of_a_takeover_was_not_interrupted(store: ObjectStore) -> None:
    def loses(partition: Partition, lease: Lease) -> None:
        lease.lost = True
        raise Interrupted("stopped")

    with pytest.raises(LeaseHeld, match="taken over"):
        under_lease(leases_of(store, "a"), PARTITION, loses)


def test_a_lease_is_renewed_from_a_thread_until_the_block_ends(store: ObjectStore) -> None:
    lease = leases_of(store, "a", LeaseSettings(ttl_s=0.06)).take(PARTITION.id)
    before = set(threading.enumerate())
    first, deadline = newest(store).renewed_ms, time.monotonic() + 10
    with kept(lease, 0.02):
        while newest(store).renewed_ms == first:
            assert time.monotonic() < deadline, "it was not renewed"
            time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@dataclass(frozen=True, slots=True)
class Beat:
    resumed: bool = False


class FreeWork:
    """Calls what it is given with itself."""

    def __init__(self, call: Callable[[FreeWork], Any]) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._call = call

    def __call__(self, partition: Partition) -> dict[str, Any]:
        self._call(self)
        return {"rows": 1}


def leased(
    store: ObjectStore, call: Callable[[FreeWork], Any], own: Callable[[Partition], bool] | None = None
) -> LeasedWork:
    task = LeasedTask(
        work=FreeWork, settings=call, root="", storage=StorageSettings(), receipts="runs/r/receipts/embed",
        leases="runs/r/leases/embed", on_demand="runs/r/on-demand/embed", invocation="a", lease=SETTINGS,
        max_deaths=None, on_demand_after=2, own=own)  # fmt: skip
    return LeasedWork(task, store=store, leases=leases_of(store, "a"), keep=unkept)


def test_what_has_a_receipt_needs_no_lease(store: ObjectStore) -> None:
    Receipts(store, "runs/r/receipts/embed").commit(PARTITION.id, {"rows": 2}, must_exist=[])
    assert leased(store, lambda work: pytest.fail("ran"))(PARTITION)["rows"] == 2
    assert leases_of(store, "b").newest(PARTITION.id) is None


def test_a_part_made_is_progress_and_a_part_found_is_none(store: ObjectStore) -> None:
    beats: list[Beat] = []
    for resumed in (True, False):
        work = leased(store, lambda work, resumed=resumed: work.report(Beat(resumed)))  # type: ignore[misc]
        work.report = beats.append
        work(PARTITION)
        assert newest(store).progressed == (not resumed)
    assert beats == [Beat(True), Beat(False)]


def test_a_work_is_told_to_stop_when_it_is_and_when_its_lease_is_lost(store: ObjectStore) -> None:
    said = []
    work = leased(store, lambda free: said.append(free.stopping()))
    work(PARTITION)
    work.stopping = lambda: True
    work(PARTITION)

    def look(free: FreeWork) -> None:
        lost._lease.lost = True  # type: ignore[union-attr]  # as a renewal finds it
        said.append(free.stopping())

    lost = leased(store, look)
    lost(PARTITION)
    assert said == [False, True, True]


def test_a_partition_in_hand_is_abandoned_as_interrupted_and_free_at_once(store: ObjectStore) -> None:
    work = leased(store, lambda free: (work.abandon(), leases_of(store, "b").take(PARTITION.id)))
    work(PARTITION)
    assert newest(store).interruptions == 1
    work.abandon()


def test_what_was_interrupted_so_often_is_marked_for_on_demand_capacity(store: ObjectStore) -> None:
    mark = f"runs/r/on-demand/embed/{PARTITION.id}.json"
    for expected in ([], [], [mark]):
        leased(store, lambda free: None)(PARTITION)
        assert [found.key for found in store.list("runs/r/on-demand/")] == expected
        leases_of(store, "a").take(PARTITION.id).end("interrupted")


def test_where_another_failed_only_who_owns_the_partition_tries_again(store: ObjectStore) -> None:
    leases_of(store, "b").take(PARTITION.id).end("failed")
    with pytest.raises(LeaseHeld, match="failed in the hands of"):
        leased(store, lambda free: pytest.fail("ran"), own=lambda partition: False)(PARTITION)
    assert leased(store, lambda free: None, own=lambda partition: True)(PARTITION)["rows"] == 1
