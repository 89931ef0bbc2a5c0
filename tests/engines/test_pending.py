"""What comes next: batches in their order, and how often others are asked for what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator

from jobs.engines.engine import Left
from jobs.engines.pending import Pending
from pipelines.partition import Partition
from tests.engines.works import partitions


class Hands:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_next_batch_is_asked_for_when_nothing_is_ready_any_more() -> None:
    asked: list[int] = []

    def batches() -> Iterator[list[Partition]]:
        for number in (2, 0, 1):
            asked.append(number)
            yield [partitions(3)[number]]

    pending = Pending(partitions(3), 3, batches=batches())
    found = []
    while pending:
        assert asked[-1] not in found
        found.append(pending.take().number)
        assert len(asked) == len(found)
    assert (found, pending.total) == ([2, 0, 1], 3)


def test_an_empty_batch_is_not_the_end() -> None:
    pending = Pending(partitions(2), 3, batches=[[], partitions(1), [], partitions(2)[1:]])
    assert [pending.take().number for _ in range(2) if pending] == [0, 1]
    assert not pending


def test_giving_up_fails_what_was_brought_and_asks_for_nothing_more() -> None:
    pending = Pending(partitions(3), 3, batches=[partitions(2), partitions(3)[2:]])
    failed = pending.give_up("cause", "message", 1)
    assert [(one.partition.number, one.attempts) for one in failed] == [(0, 0), (1, 0)]
    assert not pending


def test_the_more_is_held_the_more_rarely_each_is_asked_for() -> None:
    """One a second in all, so that a thousand waiting children do not storm the store."""
    clock = Hands()
    pending = Pending(partitions(100), 3, clock)
    asked = 0
    while clock.now < 600:
        while pending.ready:
            asked += 1
            pending.hold(pending.take(), 5.0, "held")
        clock.sleep(pending.wait_s or 0.0)
    assert 100 + 450 < asked < 100 + 750


def test_a_few_that_are_held_are_asked_for_when_it_is_worth_it() -> None:
    clock = Hands()
    pending = Pending(partitions(2), 3, clock)
    for _ in range(2):
        assert pending.hold(pending.take(), 5.0, "held") is None
    assert pending.wait_s == 5.0


def test_what_is_not_worth_asking_for_is_left() -> None:
    pending = Pending(partitions(1), 3)
    left = pending.hold(pending.take(), math.inf, "failed elsewhere")
    assert isinstance(left, Left)
    assert left.message == "failed elsewhere"
    assert not pending
