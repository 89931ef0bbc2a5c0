"""Killed at random moments, a run ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import EMBEDDERS, must_be_sound, storm
from tests.e2e.fleets import LocalFleet


@pytest.mark.soak
def test_six_kills_lose_nothing_with_lancedb(tmp_path: Path) -> None:
    result = storm(tmp_path, LocalFleet(), seed=7, kills=6, objects=12, documents=160, rows_per_part=16)
    must_be_sound(result, 6)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("target", ["lancedb", "opensearch"])
def test_fifty_kills_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest, target: str, seed: int) -> None:
    url = request.getfixturevalue("opensearch_url") if target == "opensearch" else None
    result = storm(tmp_path, LocalFleet(), seed=seed, kills=50, target=target, url=url)
    print(result)
    assert result.parts >= 200
    must_be_sound(result, 50)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name in EMBEDDERS if name != "hash"])
def test_kills_change_no_bit_of_a_real_models_vectors(tmp_path: Path, name: str) -> None:
    result = storm(tmp_path, LocalFleet(), seed=4, kills=20, objects=12, documents=160, rows_per_part=16,
                   embed=EMBEDDERS[name])  # fmt: skip
    print(result)
    must_be_sound(result, 20)
