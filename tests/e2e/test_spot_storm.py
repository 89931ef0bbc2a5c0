"""Spot capacity that is taken away all the time costs a bounded share of the work, and no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.spot_storm import must_be_sound, spot_storm


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_array_completes_while_thirty_percent_of_its_hosts_are_lost_each_minute(tmp_path: Path, seed: int) -> None:
    result = spot_storm(tmp_path, seed=seed)
    print(result)
    must_be_sound(result)
