"""A simulator with four slots, whose minute lasts a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.simulator import BatchSimulator


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchSimulator]:
    with BatchSimulator(slots=4, minute_s=1.0, seed=1, folder=tmp_path) as simulator:
        yield simulator
