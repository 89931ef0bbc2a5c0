"""What one child of an array takes, in which order, and what it leaves; in this process, without the other children:
what those would write to the store is written here."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobs.engines.backends import open_engine
from jobs.engines.engine import BatchArraySettings, Done, EngineSettings, Failed, Left, Outcome, WorkSpec
from jobs.engines.on_batch_array import ArrayChild, BatchArrayEngine, find_child
from jobs.settings import load_settings
from pipelines.errors import Interrupted, SettingsError
from pipelines.leased import LeasedTask, LeasedWork, kept
from pipelines.leases import Leases, LeaseSettings
from pipelines.owner import this_owner
from pipelines.receipts import Receipts
from pipelines.storage import StorageSettings
from pipelines.store import ObjectStore, open_store
from tests.engines.works import EvidenceWork, Orders, evidence, partitions
from tests.fixtures.imds import LIFE_CYCLE, FakeImds

BATCH = {"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "5"}
DEAD = LeaseSettings(ttl_s=0.001, max_skew_s=0)
LONG = LeaseSettings(ttl_s=1, max_skew_s=0)
QUICK = LeaseSettings(ttl_s=0.4, max_skew_s=0.1)


def engine(index: int, of: int, **more: Any) -> BatchArrayEngine:
    array = BatchArraySettings(index=index, of=of, **{"idle_s": 0.6, **more})
    return BatchArrayEngine(EngineSettings(name="batch_array", workers=0, lease=QUICK, batch_array=array), {})


def taken(outcomes: list[Outcome]) -> list[int]:
    """Numbers of what was done or failed here, in order."""
    return [one.partition.number for one in outcomes if not isinstance(one, Left)]


def left(outcomes: list[Outcome]) -> dict[int, str]:
    return {one.partition.number: one.message for one in outcomes if isinstance(one, Left)}


class Stage:
    """The store of a stage under leases, and others who are at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = f"memory://{uuid4().hex}"
        self.store: ObjectStore = open_store(self.root)
        self.receipts = Receipts(self.store, "receipts", run_id="r", stage="embed")

    def spec(self, child: ArrayChild | None = None, lease: LeaseSettings = QUICK) -> WorkSpec[LeasedTask]:
        task = LeasedTask(
            work=EvidenceWork, settings=Orders(str(self.folder)), root=self.root, storage=StorageSettings(),
            receipts=self.receipts.folder, leases=self.receipts.leases, on_demand=self.receipts.on_demand,
            invocation=uuid4().hex, lease=lease, max_deaths=3, on_demand_after=3, own=child.owns if child else None,
        )  # fmt: skip
        return WorkSpec(LeasedWork, task)

    def leases(self, *, machine: str | None = None, settings: LeaseSettings = QUICK) -> Leases:
        """Of another invocation: on ``machine``, or in a process of this one that lives."""
        owner = this_owner(uuid4().hex)
        return Leases(self.store, self.receipts.leases, replace(owner, host=machine or owner.host), settings)

    def dies(self, number: int, *, times: int = 1) -> None:
        """Children of other machines take the partition and are never heard of again."""
        for _ in range(times):
            self.leases(machine="elsewhere", settings=DEAD).take(partitions(number + 1)[number].id)
            time.sleep(0.005)

    def fails(self, number: int) -> None:
        self.leases(machine="elsewhere").take(partitions(number + 1)[number].id).end("failed")

    def mark(self, *numbers: int) -> None:
        for number in numbers:
            self.store.put(f"{self.receipts.on_demand}/{partitions(number + 1)[number].id}.json", b"{}")

    def do(self, number: int) -> None:
        self.receipts.commit(partitions(number + 1)[number].id, {"by": "another"}, must_exist=[])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# Who am I?


def test_batch_says_which_child_this_is() -> None:
    assert find_child(BatchArraySettings(), BATCH) == ArrayChild(2, 5)


def test_outside_batch_the_settings_say_it() -> None:
    assert find_child(BatchArraySettings(index=3, of=4), {}) == ArrayChild(3, 4)


def test_both_may_say_the_same_but_not_different_things() -> None:
    assert find_child(BatchArraySettings(index=2, of=5), BATCH) == ArrayChild(2, 5)
    with pytest.raises(SettingsError, match="child 2 of 5, --index and --of say 3 of 5; leave them out inside Batch"):
        find_child(BatchArraySettings(index=3, of=5), BATCH)


def test_without_either_the_engine_is_refused_and_both_ways_are_named() -> None:
    with pytest.raises(SettingsError) as caught:
        BatchArrayEngine(EngineSettings(name="batch_array"), {})
    for way in ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", "--index 0 --of 4", "--engine local"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"SIZE": "4"}, {"INDEX": "1"}, {"INDEX": "4", "SIZE": "4"}, {"INDEX": "-1", "SIZE": "4"},
               {"INDEX": "one", "SIZE": "4"}, {"INDEX": "", "SIZE": ""}, {"INDEX": "0", "SIZE": "0"}]
)  # fmt: skip
def test_nonsense_in_batchs_variables_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="name no child of an array; unset both outside AWS Batch"):
        find_child(BatchArraySettings(), {f"AWS_BATCH_JOB_ARRAY_{name}": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["index=4", "of=4"], "index counts from 0, so that of 4 children the last is 3"),
        (["index=0"], "index and of go together, such as --index 0 --of 4"),
        (["of=4"], "index and of go together"),
        (["index=-1", "of=4"], "greater than or equal to 0"),
        (["index=x", "of=4"], "valid integer"),
        (["idle_s=70"], "idle_s 70 must be more than lease.ttl_s and lease.max_skew_s together (70)"),
    ],
)
def test_settings_that_make_no_child_are_refused_by_name(tmp_path: Path, sets: list[str], message: str) -> None:
    (tmp_path / "run.yaml").write_text("corpus: c\nroot: memory://r\nsource: {uri: 'memory://s', fields: {text: t}}\n")
    words = ["engine.name=batch_array", *(f"engine.batch_array.{one}" for one in sets)]
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(tmp_path / "run.yaml", words)


def test_index_and_of_are_for_this_engine_alone(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("corpus: c\nroot: memory://r\nsource: {uri: 'memory://s', fields: {text: t}}\n")
    with pytest.raises(SettingsError, match="are for engine batch_array, not local; add --engine batch_array"):
        load_settings(tmp_path / "run.yaml", ["engine.batch_array.index=0", "engine.batch_array.of=2"])


def test_the_settings_name_opens_the_engine() -> None:
    array = BatchArraySettings(index=0, of=2)
    assert isinstance(open_engine(EngineSettings(name="batch_array", batch_array=array)), BatchArrayEngine)


@pytest.mark.parametrize(
    ("most", "of", "each"), [(1, 4, [1, 0, 0, 0]), (5, 2, [3, 2]), (2, 2, [1, 1]), (None, 2, [None, None])]
)
def test_the_writers_that_a_target_takes_are_divided_among_the_children(
    most: int | None, of: int, each: list[int | None]
) -> None:
    assert [ArrayChild(index, of).writers(most) for index in range(of)] == each


# What comes first?


def test_the_own_share_comes_first_and_then_the_others_from_a_place_of_its_own(stage: Stage) -> None:
    orders = [taken(list(engine(index, 3).run(Stage(stage.folder).spec(), partitions(9)))) for index in range(3)]
    assert orders[0] == [0, 3, 6, 1, 2, 4, 5, 7, 8]
    assert orders[1] == [1, 4, 7, 3, 5, 6, 8, 0, 2]
    assert orders[2] == [2, 5, 8, 6, 7, 0, 1, 3, 4]


def test_shares_follow_the_plans_numbers_whatever_is_pending(stage: Stage) -> None:
    some = [partition for partition in partitions(30) if partition.number in (3, 4, 7, 11, 20, 28)]
    assert taken(list(engine(3, 4).run(stage.spec(), some)))[:3] == [3, 7, 11]
    assert taken(list(engine(1, 4).run(Stage(stage.folder).spec(), some))) == [4, 7, 11, 20, 28, 3]  # none is its own


def test_shares_are_disjoint_and_together_they_are_everything() -> None:
    shares = [[p.number for p in partitions(100) if ArrayChild(index, 7).owns(p)] for index in range(7)]
    assert sorted(number for share in shares for number in share) == list(range(100))


def test_a_helper_takes_a_piece_and_looks_again_what_others_did_meanwhile(stage: Stage) -> None:
    outcomes = engine(0, 3).run(stage.spec(), partitions(300))
    own = [next(outcomes) for _ in range(100)]
    assert taken(own) == list(range(0, 300, 3))
    for number in range(299):
        if number % 3:
            stage.do(number)
    rest = list(outcomes)
    assert taken(rest) == [299]
    assert set(left(rest)) == {number for number in range(299) if number % 3}
    assert set(left(rest).values()) == {"another child did it"}


def test_a_piece_is_the_childs_part_of_what_is_pending(stage: Stage) -> None:
    outcomes = engine(1, 3).run(stage.spec(), partitions(300))
    for _ in range(101):
        last = next(outcomes)
    assert last.partition.number == 99  # a third of the way through what is not its own
    for number in range(300):
        if number % 3 != 1:
            stage.do(number)
    assert len([one for one in outcomes if isinstance(one, Left)]) == 200 - 67


@pytest.mark.parametrize(
    ("capacity", "order"),
    [("spot", [0, 4, 3, 5, 2, 1]), ("on_demand", [2, 1, 0, 4, 3, 5]), ("auto", [0, 2, 4, 1, 3, 5])],
)  # auto: there is no metadata service in the tests
def test_marked_partitions_come_last_on_spot_and_first_on_demand(stage: Stage, capacity: str, order: list[int]) -> None:
    stage.mark(1, 2)
    assert taken(list(engine(0, 2, capacity=capacity).run(stage.spec(), partitions(6)))) == order


@pytest.mark.parametrize(("said", "first"), [("spot", 0), ("on-demand", 1)])
def test_the_machine_says_which_capacity_it_is(imds: FakeImds, stage: Stage, said: str, first: int) -> None:
    imds.metadata[LIFE_CYCLE] = said
    stage.mark(1)
    assert taken(list(engine(0, 2).run(stage.spec(), partitions(4))))[0] == first


# What is left, and what is taken over?


def test_what_a_dead_child_had_is_taken_over_when_its_lease_has_ended(stage: Stage) -> None:
    leases = stage.leases(machine="elsewhere")
    lease = leases.take(partitions(2)[1].id)
    assert taken(list(engine(0, 2).run(stage.spec(), partitions(4)))) == [0, 2, 3, 1]
    taken_over = leases.newest(lease.partition_id)
    assert taken_over is not None
    assert taken_over.taken_ms >= lease.epoch.expires_ms


@pytest.fixture
def held(stage: Stage) -> Iterator[int]:
    """Number 1 is in the hands of a child that lives."""
    lease = stage.leases(settings=LONG).take(partitions(2)[1].id)
    with kept(lease, 0.05):
        yield 1


def test_what_a_live_child_holds_is_left_to_it_after_a_while(stage: Stage, held: int) -> None:
    outcomes = list(engine(0, 2).run(stage.spec(lease=LONG), partitions(4)))
    assert sorted(taken(outcomes)) == [0, 2, 3]
    assert re.search(r"is in the hands of .* \(process \d+\)", left(outcomes)[held])


def test_waiting_for_a_live_child_ends_when_it_is_done(stage: Stage, held: int) -> None:
    threading.Timer(0.2, stage.do, [held]).start()
    outcomes = list(engine(0, 2, idle_s=60).run(stage.spec(lease=LONG), partitions(4)))
    assert left(outcomes) == {}
    assert evidence(stage.folder, "began") == [0, 2, 3]


def test_a_signal_ends_a_child_that_waits(stage: Stage, held: int) -> None:
    missed: list[int] = []  # by the engine; they would end the tests
    former = signal.signal(signal.SIGTERM, lambda number, frame: missed.append(number))
    signals = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM])
    try:
        outcomes = engine(0, 2, idle_s=600).run(stage.spec(lease=LONG), partitions(2))
        assert isinstance(next(outcomes), Done)
        signals.start()
        with pytest.raises(Interrupted, match="1 of 2 partitions ended"):
            next(outcomes)
    finally:
        if signals.ident:
            signals.join()
        signal.signal(signal.SIGTERM, former)
    assert missed == []


def test_what_another_child_failed_at_is_spared_unless_it_is_ones_own(stage: Stage) -> None:
    stage.fails(0)
    stage.fails(1)
    outcomes = list(engine(0, 2, idle_s=60).run(stage.spec(ArrayChild(0, 2)), partitions(4)))
    assert sorted(taken(outcomes)) == [0, 2, 3]
    assert re.search(r"failed in the hands of .*`backhaul failures CONF` says why", left(outcomes)[1])


def test_a_partition_that_killed_its_holders_is_given_up_by_whoever_comes_next(stage: Stage) -> None:
    stage.dies(1, times=3)
    outcomes = list(engine(0, 2).run(stage.spec(ArrayChild(0, 2)), partitions(4)))
    (failed,) = [one for one in outcomes if isinstance(one, Failed)]
    assert (failed.partition.number, failed.cause, failed.exit_code) == (1, "worker died", 1)
    assert "lost its worker 3 times in a row" in failed.message
    assert evidence(stage.folder, "began") == [0, 2, 3]


def test_a_partition_given_up_stays_so_for_its_own_child_until_its_attempts_are_cleared(stage: Stage) -> None:
    stage.dies(1, times=3)
    for child in (ArrayChild(0, 2), ArrayChild(1, 2)):
        outcomes = list(engine(child.index, 2).run(stage.spec(child), partitions(4)))
        assert [one.partition.number for one in outcomes if isinstance(one, Failed)] == [1]
    assert 1 not in evidence(stage.folder, "began")
    stage.leases().clear(partitions(2)[1].id)
    assert 1 in [one.partition.number for one in engine(0, 2).run(stage.spec(ArrayChild(0, 2)), partitions(4))
                 if isinstance(one, Done)]  # fmt: skip


def test_holders_that_got_on_are_not_counted(stage: Stage) -> None:
    stage.dies(1, times=2)
    lease = stage.leases(machine="elsewhere", settings=DEAD).take(partitions(2)[1].id)
    lease.progress()
    lease.end("interrupted")
    stage.dies(1, times=2)
    outcomes = list(engine(0, 2).run(stage.spec(ArrayChild(0, 2)), partitions(4)))
    assert sorted(taken(outcomes)) == [0, 1, 2, 3]
    assert not [one for one in outcomes if isinstance(one, Failed)]


def test_a_child_that_cannot_build_its_work_fails_its_share_and_leaves_the_rest(tmp_path: Path) -> None:
    spec = WorkSpec(EvidenceWork, Orders(str(tmp_path), {}, "refuse"))
    outcomes = list(engine(0, 2).run(spec, partitions(6)))
    assert [(one.partition.number, one.attempts) for one in outcomes if isinstance(one, Failed)] == [
        (0, 0), (2, 0), (4, 0)]  # fmt: skip
    assert left(outcomes) == dict.fromkeys([1, 3, 5], "not begun by this child")
