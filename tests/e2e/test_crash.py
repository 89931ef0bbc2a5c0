"""Killed at random moments, a run ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import Storm, storm


def _check(result: Storm, kills: int) -> None:
    assert result.kills >= kills, result
    assert result.same_content, result
    assert result.same_bytes, result
    assert result.exact_rows, result
    assert result.recomputed <= 2 * result.workers_killed, result


def test_ten_kills_lose_nothing_with_lancedb(tmp_path: Path) -> None:
    result = storm(tmp_path, seed=7, kills=10, target="lancedb", objects=12, documents=160, rows_per_part=16)
    _check(result, 10)


@pytest.mark.opensearch
def test_ten_kills_lose_nothing_with_opensearch(tmp_path: Path, opensearch_url: str) -> None:
    result = storm(
        tmp_path, seed=8, kills=10, target="opensearch", url=opensearch_url, objects=12, documents=160, rows_per_part=16
    )
    _check(result, 10)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("target", ["lancedb", "opensearch"])
def test_fifty_kills_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest, target: str, seed: int) -> None:
    url = request.getfixturevalue("opensearch_url") if target == "opensearch" else None
    result = storm(tmp_path, seed=seed, kills=50, target=target, url=url)
    print(result)
    assert result.parts >= 200
    _check(result, 50)
