"""A node that dies, hangs or runs out of disk in the middle of a load; the load pauses, goes on and ends exact."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from tests.fixtures.opensearch import Node
from tests.targets.opensearch_case import Case, chunks, table

ROWS = 4_000


def wait_until(happened: Callable[[], bool], *, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not happened() and time.monotonic() < until:
        time.sleep(0.05)


def load_through(node: Node, in_the_middle: Callable[[Case], Callable[[], None]], *, then_every_s: float = 0.0) -> None:
    """``in_the_middle`` begins the trouble and returns what ends it, which takes place beside the load; a table comes
    ``then_every_s``."""
    case = Case(node.url)
    case.create()
    target = case.target(deadline_s=120, max_bulk_bytes=1 << 16)
    mending: list[threading.Thread] = []

    def batches() -> Iterator[pa.Table]:
        for first in range(0, ROWS, 100):
            if first == ROWS // 2:
                mending.append(threading.Thread(target=in_the_middle(case)))
                mending[0].start()
            time.sleep(then_every_s if mending else 0)
            yield table(chunks(first, first + 100), first=first)

    target.begin_load(case.name)
    try:
        loaded = target.load(case.name, batches())
    finally:
        for thread in mending:
            thread.join()
    target.finish_load(case.name)
    assert (loaded.rows, loaded.dead) == (ROWS, ())
    assert target.count(case.name) == ROWS
    assert case.ids() == {each.id for each in chunks(0, ROWS)}


def test_a_load_outlives_the_node_and_ends_exact(private_opensearch: Node) -> None:
    def die(case: Case) -> Callable[[], None]:
        private_opensearch.kill()
        return lambda: private_opensearch.start() and None

    load_through(private_opensearch, die)


def test_a_node_that_hangs_for_a_while_is_waited_for(private_opensearch: Node) -> None:
    def freeze(case: Case) -> Callable[[], None]:
        private_opensearch.freeze()

        def thaw() -> None:
            time.sleep(4)
            private_opensearch.thaw()

        return thaw

    load_through(private_opensearch, freeze)


def test_a_disk_near_its_flood_stage_pauses_the_load_before_anything_is_read_only(
    private_opensearch: Node, caplog: pytest.LogCaptureFixture
) -> None:
    disk = "cluster.routing.allocation.disk."
    levels = {"low": "99999gb", "high": "99998gb", "flood_stage": "99997gb"}  # of what is free

    def fill(case: Case) -> Callable[[], None]:
        full = {f"{disk}threshold_enabled": True} | {f"{disk}watermark.{name}": size for name, size in levels.items()}
        case.send("PUT", "/_cluster/settings", {"transient": full})

        def free() -> None:
            wait_until(lambda: any("loading pauses" in record.getMessage() for record in caplog.records), timeout_s=20)
            case.send("PUT", "/_cluster/settings", {"transient": dict.fromkeys(full)})

        return free

    with caplog.at_level(logging.WARNING):
        load_through(private_opensearch, fill, then_every_s=0.3)
    paused, went_on = [record.getMessage() for record in caplog.records if "opensearch_watch" in record.name]
    assert "flood stage (99997gb); free space there, add nodes, or drop generations" in paused
    assert "loading goes on after" in went_on
    assert not [record for record in caplog.records if "cluster_block_exception" in record.getMessage()]
