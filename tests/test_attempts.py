"""What was begun again, and what that cost at most."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.attempts import count_attempts, parts_begun, seconds_lost
from pipelines.store import ObjectStore, open_store

RUN = "r"


class Run:
    """Marks and parts at times of our own."""

    def __init__(self, folder: Path) -> None:
        self.store: ObjectStore = open_store(f"file://{folder}", create=True)
        self._folder = folder

    def begin(self, partition: str, attempt: str, number: int, at_s: float) -> None:
        self._put(f"runs/{RUN}/attempts/embed/{partition}/{attempt}/{number:06d}", at_s)

    def write(self, partition: str, number: int, at_s: float) -> None:
        self._put(f"runs/{RUN}/parts/{partition}/{number:06d}-{'0' * 64}.parquet", at_s)

    def lost(self) -> float | None:
        return seconds_lost(self.store, RUN, parts_begun(self.store, RUN))

    def _put(self, key: str, at_s: float) -> None:
        self.store.put(key, b"")
        os.utime(self._folder / key, (at_s, at_s))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_parts_begun_again_are_counted_by_part(run: Run) -> None:
    for partition, attempt, number in [("p", "1", 0), ("p", "2", 0), ("p", "3", 0), ("p", "3", 1), ("q", "1", 0)]:
        run.begin(partition, attempt, number, 100)
    begun = parts_begun(run.store, RUN)
    assert (begun.total, dict(begun.again), begun.recomputed) == (5, {("p", 0): 2}, 2)
    assert count_attempts(run.store, RUN) == (5, 3)


def test_where_nothing_was_begun_again_nothing_was_lost(run: Run) -> None:
    run.begin("p", "1", 0, 100)
    assert run.lost() == 0.0


def test_a_part_begun_again_cost_at_most_what_it_took_in_the_end(run: Run) -> None:
    run.begin("p", "1", 0, 100)
    run.begin("p", "2", 0, 500)
    run.begin("p", "3", 0, 900)
    run.write("p", 0, 903)
    assert run.lost() == 2 * 3.0


def test_a_part_that_was_never_finished_counts_as_the_others_did(run: Run) -> None:
    run.begin("p", "1", 0, 100)
    run.write("p", 0, 104)
    run.begin("p", "1", 1, 104)
    run.begin("p", "2", 1, 200)
    assert run.lost() == 4.0


def test_where_nothing_was_finished_nobody_can_tell(run: Run) -> None:
    run.begin("p", "1", 0, 100)
    run.begin("p", "2", 0, 200)
    assert run.lost() is None
