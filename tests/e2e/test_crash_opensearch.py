"""The same storm with a real OpenSearch node; a file of its own, so that the two run side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import must_be_sound, storm
from tests.e2e.fleets import LocalFleet


@pytest.mark.opensearch
def test_six_kills_lose_nothing_with_opensearch(tmp_path: Path, opensearch_url: str) -> None:
    result = storm(tmp_path, LocalFleet(), seed=8, kills=6, target="opensearch", url=opensearch_url, objects=12,
                   documents=160, rows_per_part=16)  # fmt: skip
    must_be_sound(result, 6)
