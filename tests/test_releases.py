"""The numbered release records: one winner per number, and the way back."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.releases import ReleaseLog
from pipelines.store import open_store


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> ReleaseLog:
    uri = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else tmp_path.as_uri()
    return ReleaseLog(open_store(uri), "papers")


def _release(log: ReleaseLog, *generations: str) -> None:
    for generation in generations:
        assert log.append("t", generation, after=log.newest("t"))


def test_records_are_numbered_and_name_what_was_live_before(log: ReleaseLog) -> None:
    assert log.newest("t") is None
    _release(log, "g1", "g2")
    assert [(r.number, r.generation, r.previous) for r in log.all("t")] == [(1, "g1", None), (2, "g2", "g1")]
    assert log.newest("t") == log.all("t")[-1]


def test_records_are_kept_by_target_and_by_corpus(log: ReleaseLog) -> None:
    _release(log, "g1")
    assert log.newest("another cluster") is None


@pytest.mark.parametrize("before", [(), ("g0",)])
def test_of_racing_releases_exactly_one_gets_the_number(log: ReleaseLog, before: tuple[str, ...]) -> None:
    _release(log, *before)
    newest = log.newest("t")
    with ThreadPoolExecutor(8) as pool:
        won = list(filter(None, pool.map(lambda i: log.append("t", f"g{i}", after=newest), range(1, 9))))
    assert len(won) == 1
    assert log.newest("t") == won[0]


def test_the_way_back_leads_further_back_each_time_and_never_forth_again(log: ReleaseLog) -> None:
    _release(log, "g1", "g2", "g3")
    assert log.before("t", "g3") == "g2"
    _release(log, "g2")
    assert log.before("t", "g2") == "g1"
    _release(log, "g1")
    assert log.before("t", "g1") is None
    _release(log, "g3")
    assert log.before("t", "g3") == "g1"


def test_before_the_first_release_there_is_nothing(log: ReleaseLog) -> None:
    assert log.before("t", "g1") is None
    _release(log, "g1")
    assert log.before("t", "unknown") is None


def test_a_long_history_is_read_side_by_side() -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    _release(ReleaseLog(store, "papers"), *(f"g{number}" for number in range(12)))
    met = threading.Barrier(4)

    class FourAtATime:
        """Answers no read before three others have come."""

        list = store.list

        def get(self, key: str) -> bytes:
            met.wait(10)
            return store.get(key)

    assert [found.number for found in ReleaseLog(FourAtATime(), "papers").all("t")] == list(range(1, 13))
