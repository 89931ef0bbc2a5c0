"""A worker's memory does not grow with the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.memory import worker_peak_mb


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_times_the_documents_take_at_most_a_tenth_more_memory(tmp_path: Path) -> None:
    small, large = (worker_peak_mb(tmp_path, documents) for documents in (10_000, 100_000))
    assert large <= 1.10 * small, (small, large)
