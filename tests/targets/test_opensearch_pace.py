"""The pace against a simulated node: near the best static setting, hardly refused, back at speed after a stall."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.targets.opensearch_gate import Gate, Stopped
from pipelines.targets.opensearch_pace import LEAST_BYTES, Pace

MB = 1 << 20


@dataclass
class Node:
    """``units`` requests are worked on at a time, each at ``bytes_per_s``; ``queue`` may wait, more are refused. Each
    answer takes ``way_s`` besides. In ``stall`` (from, until) nothing is worked on; if it is ``deaf``, connections break."""

    units: int = 4
    bytes_per_s: float = 3e6
    queue: int = 100
    way_s: float = 0.002
    stall: tuple[float, float] = (0.0, 0.0)
    deaf: bool = False
    free_at: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)  # when each that waits will be begun

    def take(self, now: float, size: int) -> tuple[float, str]:
        """When it is answered, and how."""
        self.free_at = self.free_at or [0.0] * self.units
        self.waiting = [begin for begin in self.waiting if begin > now]
        begin = max(now, heapq.heappop(self.free_at))
        if begin > now and len(self.waiting) >= self.queue:
            heapq.heappush(self.free_at, begin)
            return now + self.way_s, "refused"
        self.waiting.append(begin)
        end = begin + size / self.bytes_per_s
        if begin < self.stall[1] and end > self.stall[0]:
            if self.deaf:
                heapq.heappush(self.free_at, max(begin, self.stall[0]))
                return max(now, self.stall[0]) + self.way_s, "silence"
            end += self.stall[1] - max(begin, self.stall[0])
        heapq.heappush(self.free_at, end)
        return end + self.way_s, "taken"


class Static(Pace):
    """A setting that nothing changes."""

    def __init__(self, in_flight: int, size: int) -> None:
        super().__init__(size)
        self._fixed = in_flight

    @property
    def limit(self) -> int:
        return self._fixed

    @property
    def body_bytes(self) -> int:
        return self._most_bytes


@dataclass
class Seen:
    taken: list[tuple[float, int]]
    refused: list[float]
    sent: list[float]

    def rate(self, since: float, until: float) -> float:
        return sum(size for at, size in self.taken if since <= at < until) / (until - since)

    def refused_share(self, since: float) -> float:
        refused = sum(at >= since for at in self.refused)
        return refused / max(1, sum(at >= since for at in self.sent))


def drive(paces: list[Pace], node: Node, seconds: float, prepare_bytes_per_s: float = 100e6) -> Seen:
    """Every worker sends bodies as its pace allows, one being prepared after the other."""
    seen, order = Seen([], [], []), itertools.count()
    in_flight, ready_at = [0] * len(paces), [0.0] * len(paces)
    again: list[list[tuple[int, float]]] = [[] for _ in paces]  # bodies to send again, not before
    events: list[tuple[float, int, Callable[[], None]]] = []

    def at(when: float, act: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), act))

    def push(worker: int, now: float) -> None:
        pace = paces[worker]
        while True:
            wait_s = pace.wait_s(now, in_flight[worker])
            if wait_s == float("inf"):
                return
            body = min(again[worker], key=lambda each: each[1], default=None)
            after = max(now + wait_s, body[1] if body else ready_at[worker])
            if after > now + 1e-9:
                at(after, partial(push, worker, after))
                return
            size = body[0] if body else pace.body_bytes
            if body:
                again[worker].remove(body)
                pace.retried()
            else:
                ready_at[worker] = now + size / prepare_bytes_per_s
            send(worker, now, size)

    def send(worker: int, now: float, size: int) -> None:
        pace = paces[worker]
        in_flight[worker] += 1
        full = in_flight[worker] >= pace.limit
        seen.sent.append(now)
        when, how = node.take(now, size)

        def back() -> None:
            in_flight[worker] -= 1
            if how == "taken":
                pace.answered(now, when, size, full=full)
                seen.taken.append((when, size))
            else:
                pace.silence(when) if how == "silence" else pace.overloaded(now, when)
                seen.refused.append(when)
                again[worker].append((size, when + 0.1))
            push(worker, when)

        at(when, back)

    for worker in range(len(paces)):
        push(worker, 0.0)
    while events and events[0][0] < seconds:
        heapq.heappop(events)[2]()
    return seen


def best_static(node: Callable[[], Node], workers: int, seconds: float, since: float) -> float:
    """Bytes a second of the best setting of a sweep; answers at its ends must not make it more than the node can do."""
    capacity = node().units * node().bytes_per_s
    return min(capacity, max(
        drive([Static(in_flight, size * MB) for _ in range(workers)], node(), seconds).rate(since, seconds)
        for in_flight in (1, 2, 4, 8) for size in (2, 8)
    ))  # fmt: skip


NODES: dict[str, Callable[[], Node]] = {
    "four processors": Node,
    "a quarter of them": lambda: Node(bytes_per_s=0.75e6),
    "a short queue": lambda: Node(units=2, bytes_per_s=0.75e6, queue=3),
    "eight processors": lambda: Node(units=8),
    "far away": lambda: Node(bytes_per_s=12e6, way_s=0.05),
}


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("name", NODES)
def test_it_reaches_nine_tenths_of_the_best_static_setting_and_is_hardly_refused(name: str, workers: int) -> None:
    seen = drive([Pace(8 * MB, seed=worker) for worker in range(workers)], NODES[name](), 200)
    assert seen.rate(20, 200) >= 0.9 * best_static(NODES[name], workers, 60, 20)
    assert seen.refused_share(60) <= 0.02


@pytest.mark.parametrize("deaf", [False, True], ids=["it hangs", "it is gone"])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", ["four processors", "a quarter of them", "eight processors"])
def test_after_a_stall_it_is_back_at_speed_within_ten_seconds(name: str, workers: int, deaf: bool) -> None:
    node = NODES[name]()
    node.stall, node.deaf = (60.0, 90.0), deaf
    seen = drive([Pace(8 * MB, seed=worker) for worker in range(workers)], node, 150)
    assert seen.rate(100, 115) >= 0.9 * seen.rate(20, 60)
    if deaf:
        assert sum(65 <= at < 90 for at in seen.sent) / 25 <= 3


def test_a_node_that_becomes_slower_is_followed() -> None:
    pace = Pace(8 * MB, seed=1)
    drive([pace], Node(units=8), 100)
    many = pace.limit
    seen = drive([pace], Node(units=1, queue=1), 200)
    assert many >= 6
    assert (pace.limit, seen.refused_share(100) <= 0.02) == (1, True) or pace.limit == 2


EVENTS = st.lists(st.tuples(st.sampled_from(["answered", "overloaded", "silence", "large", "bound", "retried"]),
                            st.floats(0.001, 20), st.integers(1, 8 * MB)), max_size=200)  # fmt: skip


@given(EVENTS, st.integers(1 << 16, 16 * MB))
@settings(max_examples=200, deadline=None)
def test_whatever_it_meets_it_stays_within_its_bounds_and_never_stops_for_good(
    events: list[tuple[str, float, int]], most_bytes: int
) -> None:
    pace, now = Pace(most_bytes, seed=0), 0.0
    for what, latency_s, size in events:
        sent_at, now = now, now + latency_s
        if what == "answered":
            pace.answered(sent_at, now, size, full=True)
        elif what == "overloaded":
            pace.overloaded(sent_at, now)
        elif what == "silence":
            pace.silence(now)
        elif what == "retried":
            pace.retried()
        else:
            pace.too_large(now, size, for_good=what == "bound")
        assert 1 <= pace.limit <= 8
        assert min(LEAST_BYTES, most_bytes) <= pace.body_bytes <= most_bytes
        assert pace.limit * pace.body_bytes <= max(4 * most_bytes, 8 * LEAST_BYTES)
        assert pace.wait_s(now, 0) <= 4.01
        assert pace.wait_s(now, 8) == float("inf")


def test_a_bound_that_somebody_sets_to_bodies_is_kept_for_good() -> None:
    pace = Pace(8 * MB, seed=0)
    pace.too_large(0.0, 4 * MB, for_good=True)
    drive([pace], Node(), 300)
    assert pace.body_bytes <= 2 * MB


def test_bodies_that_a_breaker_refused_grow_again_later() -> None:
    pace = Pace(8 * MB, seed=0)
    pace.too_large(0.0, 1 * MB, for_good=False)
    assert pace.body_bytes == MB // 2
    drive([pace], Node(bytes_per_s=12e6), 120)
    assert pace.body_bytes > 2 * MB


class TestGate:
    def test_no_more_are_inside_than_the_limit(self) -> None:
        gate, stop, inside, most = Gate(Pace(MB, seed=0)), threading.Event(), [0], [0]
        turn = threading.Lock()

        def enter() -> None:
            for _ in range(50):
                with gate.entered(stop):
                    with turn:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.001)
                    with turn:
                        inside[0] -= 1

        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert most[0] == 2

    def test_who_waits_is_told_to_stop(self) -> None:
        gate, stop, met = Gate(Pace(MB, most_in_flight=1, seed=0)), threading.Event(), []

        def enter() -> None:
            try:
                with gate.entered(stop):
                    met.append("in")
            except Stopped:
                met.append("stopped")

        with gate.entered(stop):
            thread = threading.Thread(target=enter)
            thread.start()
            stop.set()
            thread.join(5)
        assert met == ["stopped"]
