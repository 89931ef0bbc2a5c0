"""Killed at random moments, again and again, the children of an array end as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import must_be_sound
from tests.e2e.crash_array import array_storm


def test_five_kills_lose_nothing(tmp_path: Path) -> None:
    result = array_storm(
        tmp_path,
        seed=7,
        kills=5,
        children=2,
        slots=2,
        workers=0,
        part_s=0.15,
        objects=16,
        documents=160,
        rows_per_part=16,
    )
    must_be_sound(result, 5)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    result = array_storm(tmp_path, seed=seed, kills=54, children=8, slots=8, workers=0, part_s=1.0, documents=960)
    print(result)
    must_be_sound(result, 54)
