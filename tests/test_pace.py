"""How fast, and until when."""

from __future__ import annotations

import uuid

from jobs.pace import Pace, pace_of
from pipelines.receipts import Receipts
from pipelines.store import open_store


def _receipts(rows: dict[str, int]) -> Receipts:
    receipts = Receipts(open_store(f"memory://{uuid.uuid4().hex}", create=True), "receipts")
    for partition, count in rows.items():
        receipts.commit(partition, {"rows": count}, must_exist=[])
    return receipts


def _pace(times_ms: dict[str, int], *, now_ms: int, since_ms: int | None = 0, left: int = 10) -> Pace:
    receipts = _receipts(dict.fromkeys(times_ms, 50))
    return pace_of(receipts, times_ms, left=left, now_ms=now_ms, running_since_ms=since_ms)


def test_one_receipt_tells_no_pace() -> None:
    assert _pace({"a": 5}, now_ms=10) == Pace()
    assert _pace({}, now_ms=10) == Pace()


def test_receipts_at_the_same_moment_tell_no_pace() -> None:
    assert _pace({"a": 5, "b": 5}, now_ms=5) == Pace()


def test_a_partition_every_ten_seconds_is_six_a_minute() -> None:
    assert _pace({"a": 10_000, "b": 20_000, "c": 30_000}, now_ms=30_000) == Pace(6.0, 300.0, 100.0)


def test_a_stage_that_stands_still_grows_slower() -> None:
    assert _pace({"a": 0, "b": 10_000}, now_ms=60_000) == Pace(1.0, 50.0, 600.0)


def test_what_was_done_before_the_workers_began_says_nothing_of_them() -> None:
    times = {"old": 0, "older": 1, "a": 1_000_000, "b": 1_010_000}
    assert _pace(times, now_ms=1_010_000, since_ms=999_000) == Pace(6.0, 300.0, 100.0)


def test_where_nobody_is_at_work_there_is_a_pace_and_no_end() -> None:
    assert _pace({"a": 0, "b": 10_000}, now_ms=9_999_999, since_ms=None) == Pace(6.0, 300.0, None)


def test_the_last_hundred_count() -> None:
    slow = {f"s{i}": i * 100_000 for i in range(50)}
    fast = {f"f{i}": 50 * 100_000 + i * 1_000 for i in range(100)}
    assert _pace({**slow, **fast}, now_ms=50 * 100_000 + 99_000).partitions_per_minute == 60.0
