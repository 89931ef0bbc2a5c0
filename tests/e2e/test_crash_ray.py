"""Killed at random moments (workers, nodes and drivers of a Ray cluster), a run ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import must_be_sound, storm
from tests.e2e.fleets import ray_fleet


def test_five_kills_lose_nothing(tmp_path: Path) -> None:
    with ray_fleet() as fleet:
        result = storm(tmp_path, fleet, seed=7, kills=5, objects=8, documents=160, rows_per_part=16, share_in_load=0, part_s=0.15,
                       share_of_drivers=0.2)  # fmt: skip
    must_be_sound(result, 5)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Two seeds: more than a hundred kills, more than twenty of them of drivers."""
    with ray_fleet() as fleet:
        result = storm(tmp_path, fleet, seed=seed, kills=54, share_in_load=0.2, share_of_drivers=0.3)
    print(result)
    must_be_sound(result, 54)
    assert result.kills_of_drivers >= 10
