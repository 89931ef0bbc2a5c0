"""Leases as an onlooker sees them."""

from __future__ import annotations

import uuid
from collections.abc import Set
from dataclasses import replace

import pytest

from pipelines.holders import Holding, who_holds
from pipelines.leases import Lease, Leases, LeaseSettings
from pipelines.owner import THIS_MACHINE, Machine, Owner, this_owner
from pipelines.store import ObjectStore, open_store

FOLDER = "runs/r/leases/embed"
SETTINGS = LeaseSettings(ttl_s=60, max_skew_s=10)


class StandingClock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Place:
    def __init__(self) -> None:
        self.store: ObjectStore = open_store(f"memory://{uuid.uuid4().hex}", create=True)
        self.clock = StandingClock()
        self.dead: set[int] = set()
        self.machine = Machine(self.clock, lambda owner: owner.pid in self.dead, THIS_MACHINE.new_token)

    def take(self, partition_id: str, pid: int = 7, host: str = "there", invocation: str = "one") -> Lease:
        owner = Owner(invocation, host, "name-of-host", pid, 1.0)
        return Leases(self.store, FOLDER, owner, SETTINGS, self.machine).take(partition_id)

    def look(self, done: Set[str] = frozenset(), most_read: int = 100) -> Holding:
        return who_holds(self.store, FOLDER, done, SETTINGS, machine=self.machine, most_read=most_read)


@pytest.fixture
def place() -> Place:
    return Place()


def test_who_holds_what_and_since_when_the_longest_first(place: Place) -> None:
    place.take("b", pid=1)
    place.clock.now += 5
    place.take("a", pid=2)
    held = place.look().held
    assert [(p, epoch.owner.pid, epoch.owner.name) for p, epoch in held.items()] == [
        ("b", 1, "name-of-host"),
        ("a", 2, "name-of-host"),
    ]
    assert held["a"].taken_ms - held["b"].taken_ms == 5000


def test_what_was_released_is_in_nobodys_hand(place: Place) -> None:
    place.take("a").end("failed")
    place.take("b").end("done")
    found = place.look(done={"b"})
    assert (found.epochs, found.interruptions, found.held) == (2, 0, {})


def test_what_has_a_receipt_is_in_nobodys_hand_whatever_its_lease_says(place: Place) -> None:
    place.take("a").end("interrupted")
    place.take("a")
    place.take("b")
    found = place.look(done={"a", "b"})
    assert (found.epochs, found.interruptions, found.held) == (3, 1, {})


def test_a_holder_without_a_sign_for_longer_than_its_lease_and_the_skew_is_an_interruption(place: Place) -> None:
    place.take("a")
    place.clock.now += 69
    assert list(place.look().held) == ["a"]
    place.clock.now += 2
    found = place.look()
    assert (found.interruptions, found.held) == (1, {})


def test_a_holder_whose_process_is_gone_on_this_host_is_an_interruption_at_once(place: Place) -> None:
    place.take("a", pid=5, host=this_owner("").host)
    place.dead = {5}
    found = place.look()
    assert (found.interruptions, found.held) == (1, {})


def test_interruptions_add_up_over_takeovers_and_are_forgotten_when_cleared(place: Place) -> None:
    place.take("a").end("interrupted")
    place.take("a").end("interrupted")
    place.take("b").end("interrupted")
    found = place.look()
    assert (found.epochs, found.interruptions, found.exact) == (3, 3, True)
    Leases(place.store, FOLDER, this_owner("x"), SETTINGS, place.machine).clear("a")
    assert place.look().interruptions == 1


def test_interruptions_of_what_is_done_count(place: Place) -> None:
    place.take("a").end("interrupted")
    place.take("a").end("done")
    assert place.look(done={"a"}).interruptions == 1


def test_where_there_is_too_much_to_read_the_count_is_an_upper_bound_and_says_so(place: Place) -> None:
    for partition_id in "abc":
        place.take(partition_id).end("interrupted")
        place.take(partition_id).end("done")
    found = place.look(done=set("abc"), most_read=1)
    assert (found.interruptions, found.exact) == (3, False)


def test_what_was_done_at_the_first_attempt_is_not_read(place: Place) -> None:
    place.take("a").end("done")
    place.store.put(f"{FOLDER}/a/000001.json", b"no lease at all")
    assert place.look(done={"a"}).epochs == 1


def test_clearing_leaves_alone_who_is_at_it(place: Place) -> None:
    lease = place.take("a")
    Leases(place.store, FOLDER, replace(this_owner("x"), host="here"), SETTINGS, place.machine).clear("a")
    assert list(place.look().held) == ["a"]
    lease.renew()
    assert not lease.lost
