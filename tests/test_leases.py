"""Leases: one holder at a time, as far as clocks allow; what became of former holders is counted, and can be forgotten."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines.errors import LeaseHeld
from pipelines.leases import Epoch, Leases, LeaseSettings, newest_epochs
from pipelines.owner import Machine, Owner, is_dead, this_owner
from pipelines.store import ObjectStore, open_store

SETTINGS = LeaseSettings(ttl_s=60.0, max_skew_s=10.0)
FOLDER = "runs/r/leases/embed"


class HandClock:
    """Goes when it is told to; ``ahead_s`` before true time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.ahead_s = 0.0

    def time(self) -> float:
        return self.now + self.ahead_s

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Places:
    """Invocations that share a store and true time; each on a machine of its own unless said otherwise."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.clock = HandClock()

    def of(self, invocation: str, *, host: str = "", ahead_s: float = 0.0,
           dead: Callable[[Owner], bool] = lambda owner: False) -> Leases:  # fmt: skip
        clock = self.clock

        class Ahead(HandClock):
            def time(self) -> float:
                return clock.now + ahead_s

            def monotonic(self) -> float:
                return clock.now

        owner = Owner(invocation, host or f"host of {invocation}", "a name", 7, 1.0)
        return Leases(self.store, FOLDER, owner, SETTINGS, Machine(Ahead(), dead))


@pytest.fixture
def places(request: pytest.FixtureRequest) -> Places:
    return Places(open_store(f"memory://{request.node.name}"))


def test_a_lease_holds_others_off_and_says_who_has_it(places: Places) -> None:
    places.of("a").take("p")
    with pytest.raises(LeaseHeld, match=r"partition p is in the hands of a name \(process 7\)") as held:
        places.of("b").take("p")
    assert 0 < held.value.retry_after_s <= 5.0


def test_an_expired_lease_is_taken_over_in_the_next_epoch(places: Places) -> None:
    places.of("a").take("p")
    places.clock.now += SETTINGS.ttl_s + SETTINGS.max_skew_s + 1
    assert places.of("b").take("p").epoch.number == 2


def test_an_expired_lease_is_still_held_within_the_skew(places: Places) -> None:
    places.of("a").take("p")
    places.clock.now += SETTINGS.ttl_s + SETTINGS.max_skew_s - 1
    with pytest.raises(LeaseHeld):
        places.of("b").take("p")


def test_a_renewed_lease_is_held_on(places: Places) -> None:
    lease = places.of("a").take("p")
    for _ in range(10):
        places.clock.now += 20
        lease.renew()
        with pytest.raises(LeaseHeld):
            places.of("b").take("p")
    assert not lease.lost


@pytest.mark.parametrize("ahead_s", [-10.0, 10.0])
def test_clocks_that_differ_by_the_stated_skew_rob_nobody(places: Places, ahead_s: float) -> None:
    places.of("a").take("p")
    places.clock.now += SETTINGS.ttl_s - 1
    with pytest.raises(LeaseHeld):
        places.of("b", ahead_s=ahead_s).take("p")


def test_a_holder_whose_clock_is_days_ahead_is_taken_over_once_it_was_silent_for_a_ttl(places: Places) -> None:
    places.of("a", ahead_s=200_000.0).take("p")
    waiting = places.of("b")
    with pytest.raises(LeaseHeld):
        waiting.take("p")
    places.clock.now += SETTINGS.ttl_s - 1
    with pytest.raises(LeaseHeld):
        waiting.take("p")
    places.clock.now += 1
    assert waiting.take("p").epoch.number == 2


def test_a_renewal_is_seen_by_who_watches_however_the_clock_goes(places: Places) -> None:
    lease, waiting = places.of("a", ahead_s=200_000.0).take("p"), places.of("b")
    for _ in range(4):
        with pytest.raises(LeaseHeld):
            waiting.take("p")
        places.clock.now += SETTINGS.ttl_s / 2
        lease.renew()


def test_the_same_invocation_takes_its_own_lease_over_at_once(places: Places) -> None:
    first, second = places.of("a").take("p"), places.of("a").take("p")
    assert second.epoch.number == 2
    first.renew()
    assert not first.lost, "it was no other invocation"


def test_a_holder_that_died_on_this_machine_is_not_waited_for(places: Places) -> None:
    places.of("a", host="h").take("p")
    assert places.of("b", host="h", dead=lambda owner: owner.invocation == "a").take("p").epoch.number == 2


def test_whether_a_holder_lives_is_not_asked_of_another_machine(places: Places) -> None:
    places.of("a", host="h").take("p")
    with pytest.raises(LeaseHeld):
        places.of("b", host="i", dead=lambda owner: True).take("p")


def test_a_robbed_holder_notices_and_leaves_the_lease_alone(places: Places) -> None:
    lost = places.of("a").take("p")
    places.clock.now += SETTINGS.ttl_s + SETTINGS.max_skew_s + 1
    taken = places.of("b").take("p")
    lost.renew()
    assert lost.lost
    taken.renew()
    assert not taken.lost
    with pytest.raises(LeaseHeld):
        places.of("c").take("p")


@pytest.mark.parametrize("how", ["done", "failed", "interrupted"])
def test_a_released_lease_is_free_at_once(places: Places, how: str) -> None:
    places.of("a").take("p").end(how)  # type: ignore[arg-type]
    assert places.of("b").take("p").epoch.number == 2


def test_an_ended_lease_stays_ended(places: Places) -> None:
    lease = places.of("a").take("p")
    lease.end("interrupted")
    lease.renew()
    lease.end("done")
    newest = places.of("b").newest("p")
    assert newest is not None
    assert newest.ended == "interrupted"


class SlowStore:
    """The first put that comes after ``block`` waits until it is told to go on."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.block = False
        self.blocked, self.go_on = threading.Event(), threading.Event()

    def put(self, key: str, data: bytes) -> None:
        if self.block:
            self.block = False
            self.blocked.set()
            assert self.go_on.wait(10)
        self._store.put(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_of_a_renewal_and_a_release_at_the_same_time_the_release_stays(places: Places) -> None:
    slow = SlowStore(places.store)
    places.store = slow  # type: ignore[assignment]
    lease = places.of("a").take("p")
    slow.block = True
    renewing, ending = threading.Thread(target=lease.renew), threading.Thread(target=lease.end, args=["interrupted"])
    renewing.start()
    assert slow.blocked.wait(10)
    ending.start()
    ending.join(0.1)
    slow.go_on.set()
    for thread in (renewing, ending):
        thread.join(10)
    newest = places.of("b").newest("p")
    assert newest is not None
    assert newest.ended == "interrupted"


def test_a_holder_has_two_more_tries_to_renew_before_its_lease_ends(places: Places) -> None:
    assert places.of("a").renew_every_s * 3 <= SETTINGS.ttl_s


def test_who_waited_and_looks_again_asks_for_no_epoch_that_is_there(places: Places) -> None:
    places.of("a").take("p")
    waiting = places.of("b")
    for _ in range(3):
        with pytest.raises(LeaseHeld):
            waiting.take("p")
    places.clock.now += SETTINGS.ttl_s
    assert waiting.take("p").epoch.number == 2


def test_where_another_failed_who_spares_it_leaves_it_alone(places: Places) -> None:
    places.of("a").take("p").end("failed")
    with pytest.raises(LeaseHeld, match="failed in the hands of a name") as held:
        places.of("b").take("p", spare_failed=True)
    assert held.value.retry_after_s == math.inf
    assert places.of("b").take("p").epoch.number == 2


def test_deaths_in_a_row_are_counted_and_success_ends_the_row(places: Places) -> None:
    counted = []
    for invocation in "abc":
        counted.append(places.of(invocation).take("p").epoch.deaths)
        places.clock.now += 1000
    last = places.of("d").take("p")
    last.end("done")
    assert [*counted, last.epoch.deaths] == [0, 1, 2, 3]
    assert places.of("e").take("p").epoch.deaths == 0


def test_a_death_after_progress_is_the_first_of_a_new_row(places: Places) -> None:
    for _ in range(2):
        places.of("a").take("p")
    third = places.of("a").take("p")
    assert third.epoch.deaths == 2
    third.progress()
    assert places.of("a").take("p").epoch.deaths == 1


def test_progress_before_an_interruption_ends_the_row_too(places: Places) -> None:
    places.of("a").take("p")
    second = places.of("a").take("p")
    second.progress()
    second.end("interrupted")
    assert places.of("a").take("p").epoch.deaths == 0


@pytest.mark.parametrize("how", ["interrupted", "failed"])
def test_an_end_without_progress_neither_adds_to_the_row_nor_ends_it(places: Places, how: str) -> None:
    places.of("a").take("p")
    places.of("a").take("p").end(how)  # type: ignore[arg-type]
    assert places.of("a").take("p").epoch.deaths == 1


def test_a_holder_whose_lease_had_run_out_looks_before_each_part(places: Places) -> None:
    lease = places.of("a").take("p")
    assert not lease.taken_over()
    places.clock.now += SETTINGS.ttl_s + SETTINGS.max_skew_s + 1
    assert not lease.taken_over()  # nobody came, and it is renewed
    places.clock.now += 1
    assert Leases._create(places.of("b"), "p", replace(lease.epoch, number=2, owner=Owner("b", "h", "n", 8, 1.0)))
    assert lease.taken_over()


def test_a_holder_that_renewed_in_time_asks_the_store_nothing_before_a_part(places: Places) -> None:
    lease = places.of("a").take("p")
    for _ in range(3):
        places.clock.now += SETTINGS.ttl_s / 3
        lease.renew()
    before = places.of("b").newest("p")
    assert not lease.taken_over()
    assert places.of("b").newest("p") == before


def test_progress_between_the_look_and_the_taking_over_counts(places: Places) -> None:
    for invocation in ("a", "b"):
        places.of(invocation).take("p")
        places.clock.now += 200
    holder, taker = places.of("c").take("p"), places.of("d")
    places.clock.now += 200
    create = taker._create

    def late(partition_id: str, epoch: Epoch) -> bool:
        if epoch.number == 4:
            holder.progress()
        return create(partition_id, epoch)

    taker._create = late  # type: ignore[method-assign]
    lease = taker.take("p")
    assert (holder.epoch.deaths, lease.epoch.deaths) == (2, 1)
    assert taker.newest("p") == lease.epoch


def test_progress_is_written_at_once_after_a_death_and_else_with_the_next_renewal(places: Places) -> None:
    for deaths in (0, 1):
        lease = places.of("a").take("p")
        assert lease.epoch.deaths == deaths
        lease.progress()
        stored = places.of("b").newest("p")
        assert stored is not None
        assert stored.progressed == bool(deaths)
        if not deaths:
            lease.renew()
            stored = places.of("b").newest("p")
            assert stored is not None
            assert stored.progressed


def test_interruptions_are_deaths_and_interruptions_of_all_holders(places: Places) -> None:
    places.of("a").take("p")
    places.of("a").take("p").end("interrupted")
    places.of("a").take("p").end("failed")
    fourth = places.of("a").take("p")
    assert fourth.epoch.interruptions == 2


def test_clearing_forgets_deaths_and_interruptions(places: Places) -> None:
    for _ in range(3):
        places.of("a").take("p")
    places.clock.now += 1000
    places.of("operator").clear("p")
    epoch = places.of("b").take("p").epoch
    assert (epoch.number, epoch.deaths, epoch.interruptions) == (5, 0, 0)


def test_clearing_leaves_whoever_is_at_it_alone(places: Places) -> None:
    lease = places.of("a").take("p")
    places.of("operator").clear("p")
    lease.renew()
    assert not lease.lost


def test_clearing_where_nobody_was_leaves_nothing(places: Places) -> None:
    places.of("operator").clear("p")
    assert places.of("a").newest("p") is None


def test_the_newest_epochs_of_all_partitions_are_listed(places: Places) -> None:
    for partition in ("p", "p", "q"):
        places.of("a").take(partition)
    assert {name: epoch.number for name, epoch in newest_epochs(places.store, FOLDER)} == {"p": 2, "q": 1}


def test_this_process_is_an_owner_that_lives_and_one_with_another_start_is_dead() -> None:
    owner = this_owner("a")
    assert not is_dead(owner)
    assert is_dead(replace(owner, started=owner.started - 1))
    assert is_dead(replace(owner, pid=2**22 + 1))
