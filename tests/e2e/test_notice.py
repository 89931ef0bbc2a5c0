"""The embed verb on a machine that is taken away: it finishes its part, lets go of its lease and exits 75."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.benchmarks.notice import measure, must_be_clean, must_be_prompt


def test_a_signal_and_both_notices_end_embedding_cleanly(tmp_path: Path) -> None:
    figures = measure(tmp_path, notices=3, at_once=3, part_s=0.5, grace_s=120)
    must_be_clean(figures)
    assert figures["parts_begun"] >= 3


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_hundred_notices_end_embedding_cleanly_and_in_time(tmp_path: Path) -> None:
    figures = measure(tmp_path, notices=201, at_once=max(2, os.cpu_count() or 1))
    must_be_clean(figures)
    must_be_prompt(figures)
