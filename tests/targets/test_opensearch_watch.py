"""What makes a load pause before a node refuses, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.errors import TargetHalted
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_watch import Watch, free_at
from pipelines.targets.target import IndexSettings
from tests.fixtures.faulty_opensearch import Act, Answer, Request, faulty_opensearch

GB = 1 << 30


def node(*, heap: float = 0.5, free: float = 0.5) -> dict[str, Any]:
    return {
        "name": "one",
        "breakers": {"parent": {"limit_size_in_bytes": 1000, "estimated_size_in_bytes": int(1000 * heap)}},
        "fs": {"total": {"total_in_bytes": 100 * GB, "available_in_bytes": int(100 * GB * free)}},
    }


class Told:
    """A rule: the state of the nodes, one answer after the other, the last one for ever."""

    def __init__(self, *states: Any, flood: str = "95%", enabled: str = "true") -> None:
        self.states, self.asked = list(states), 0
        disk = "cluster.routing.allocation.disk."
        self.settings = {"defaults": {f"{disk}threshold_enabled": enabled, f"{disk}watermark.flood_stage": flood}}

    def __call__(self, request: Request) -> Act | None:
        if request.path.startswith("/_cluster/settings"):
            return Answer(200, self.settings)
        state = self.states[min(self.asked, len(self.states) - 1)]
        self.asked += 1
        return state if isinstance(state, Answer) else Answer(200, {"nodes": {"id": state}})


def watch(told: Told, *, deadline_s: float = 20.0) -> Iterator[Watch]:
    with faulty_opensearch("http://127.0.0.1:9", told) as url:
        yield Watch(Cluster(IndexSettings(target="opensearch", url=url, deadline_s=deadline_s)))


@pytest.mark.parametrize(
    ("told", "times"),
    [
        (Told(node()), 1),
        (Told(node(heap=0.97), node()), 2),
        (Told(node(heap=0.94)), 1),
        (Told(node(free=0.055), node()), 2),
        (Told(node(free=0.055), flood="97%"), 1),
        (Told(node(free=0.055), enabled="false"), 1),
        (Told(node(free=0.2), node(), flood="20gb"), 2),
        (Told(node(free=0.2), node(), flood="0.8"), 2),
        (Told({"name": "a node that tells nothing"}), 1),
        (Told(Answer(503, {})), 1),
    ],
    ids=["well", "heap", "heap that is fine", "disk", "disk that is fine", "nobody minds the disk", "in bytes", "as a share",
         "silent", "troubled"],
)  # fmt: skip
def test_it_waits_for_what_would_be_refused_and_for_nothing_else(told: Told, times: int) -> None:
    for watching in watch(told):
        watching.hold_back(threading.Event())
        assert told.asked == times
        watching.hold_back(threading.Event())  # not every body asks
        assert told.asked == times


def test_a_cluster_that_shows_nothing_is_asked_once() -> None:
    told = Told(Answer(403, {"error": {"type": "security_exception", "reason": "no permissions for [nodes/stats]"}}))
    for watching in watch(told):
        watching.hold_back(threading.Event())
        assert watching.blind


def test_the_deadline_ends_the_pause_naming_the_node_and_what_to_do() -> None:
    for watching in watch(Told(node(free=0.01)), deadline_s=1):
        with pytest.raises(
            TargetHalted, match=r"the disk of node one has 1\.0 of 100 GiB free.*`backhaul drop CONF.*to resume"
        ):
            watching.hold_back(threading.Event())


def test_a_load_that_ends_meanwhile_does_not_wait() -> None:
    stop = threading.Event()
    stop.set()
    for watching in watch(Told(node(heap=0.99)), deadline_s=60):
        watching.hold_back(stop)


@pytest.mark.parametrize(
    ("watermark", "free"), [("95%", 5.0), ("0.95", 5.0), ("500mb", 500 * (1 << 20)), ("1.5gb", 1.5 * GB)]
)
def test_a_watermark_is_a_share_of_what_is_used_or_bytes_that_are_free(watermark: str, free: float) -> None:
    assert free_at(watermark, 100) == pytest.approx(free)
