"""After releases of a changing corpus gc leaves what a reader can reach, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gc_storm import LEAVING, storm

pytestmark = pytest.mark.opensearch


@pytest.fixture(params=["opensearch", "lancedb"])
def index(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "lancedb":
        return {"target": "lancedb"}
    return {"target": "opensearch", "url": request.getfixturevalue("opensearch_url"), "replicas": 0}


def test_five_releases(tmp_path: Path, opensearch_url: str) -> None:
    index = {"target": "opensearch", "url": opensearch_url, "replicas": 0}
    result = storm(tmp_path, seed=1, releases=5, index=index)
    assert not result.wrong, result
    assert result.carried > 0, result


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_releases(tmp_path: Path, index: dict[str, Any], seed: int) -> None:
    result = storm(tmp_path, seed=seed, releases=20, index=index)
    print(result)
    assert not result.wrong, result
    assert set(result.left_behind) == {leave.__name__ for leave in LEAVING}, result
