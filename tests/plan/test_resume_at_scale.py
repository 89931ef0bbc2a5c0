"""What a resumed run does before it starts a worker: the benchmark in small, and its floors in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.resume import COMMITTED, LATENCY_MS, PENDING, WAYS, committed_run, resume, resume_afresh


@pytest.mark.parametrize("way", WAYS)
def test_what_has_no_receipt_is_pending_and_nothing_else(tmp_path: Path, way: str) -> None:
    with committed_run(tmp_path, 5_000, 300, latency_ms=0) as (conf, left):
        found = resume(conf, way)
    assert found["committed"] == 5_000
    assert sorted(found["pending"]) == sorted(left)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_million_committed_receipts_take_less_than_30_s_and_a_gigabyte(tmp_path: Path) -> None:
    with committed_run(tmp_path, COMMITTED, PENDING, LATENCY_MS) as (conf, left):
        found = resume_afresh(conf)
    assert found["committed"] == COMMITTED
    assert sorted(found["pending"]) == sorted(left)
    assert found["wall_s"] < 30
    assert found["peak_mb"] < 1000
