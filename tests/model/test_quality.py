"""What is promised of a model's files, on labelled data: fp32 reproduces the published figure, int8 stays within its gates."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.benchmarks.models import measure

absent = importlib.util.find_spec("sentence_transformers") is None or importlib.util.find_spec("nncf") is None
data = Path(os.environ.get("BACKHAUL_DATA", "../shared/data"))


@pytest.mark.soak
@pytest.mark.torch
@pytest.mark.timeout(7200)
@pytest.mark.skipif(absent, reason="the extras torch and openvino are not installed")
@pytest.mark.skipif(not (data / "scifact").is_dir(), reason="BACKHAUL_DATA holds no SciFact")
def test_fp32_reproduces_the_published_figure_and_int8_loses_at_most_a_hundredth_of_it(tmp_path: Path) -> None:
    found = measure(tmp_path, sets=["scifact"])["scifact"]["int8"]
    assert found["ndcg@10"]["plain"] == pytest.approx(0.6451, abs=0.001)
    assert found["ndcg@10"]["relative_loss"] <= 0.01
    assert found["cosine"]["p1"] >= 0.99
