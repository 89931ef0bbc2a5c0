"""Killed at any moment of load, merge, restore, verify, release or rollback, one resume makes all of it good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash_load import storm
from tests.e2e.moments import ASKED

pytestmark = pytest.mark.opensearch


def test_five_moments(tmp_path: Path, opensearch_url: str) -> None:
    result = storm(tmp_path, opensearch_url, seed=1, moments=5)
    assert result.sound, result
    assert result.looks_at_the_alias > 50, result


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(11, 16))
def test_fifty_moments(tmp_path: Path, opensearch_url: str, seed: int) -> None:
    result = storm(tmp_path, opensearch_url, seed=seed, moments=50)
    print(result)
    assert result.sound, result
    assert set(result.by_stage) == set(ASKED), result
    assert min(result.by_stage.values()) >= 3, result
