"""The real service under more than its index answers refuses at once, and its memory does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.overload import overload

pytestmark = pytest.mark.opensearch


@pytest.mark.soak
def test_five_times_of_what_it_can_for_a_moment(tmp_path: Path, opensearch_url: str) -> None:
    """On a busy machine figures of time say little; what is asserted here holds on any."""
    found = overload(tmp_path, opensearch_url, seconds=1.2)
    assert set(found.statuses) == {"200", "503 overloaded"}
    assert found.statuses["503 overloaded"] > found.statuses["200"]
    assert found.goodput >= 0.6 * found.peak_goodput
    assert found.retry_after_s["min"] >= 1
    assert found.refused["p50"] < found.accepted["p50"]
    assert found.rss_mb["after"] <= found.rss_mb["before"] + 50


@pytest.mark.soak
def test_five_times_of_what_it_can(tmp_path: Path, opensearch_url: str) -> None:
    found = overload(tmp_path, opensearch_url, seconds=60.0)
    print(found)
    assert not found.misses
