"""Two embedders side by side: what the figures say, and when a gate refuses them. The embedders are lists of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipelines.embed.embedder import Role, Vectors
from pipelines.errors import GateRefused, SettingsError
from pipelines.labelled import Labelled
from pipelines.model.agreement import Agreement, compare_labelled, compare_texts
from pipelines.model.plot import plot_agreement

TEXTS = {"d0": "north", "d1": "east", "d2": "south"}
DIRECTIONS = {"north": [0.0, 1.0], "east": [1.0, 0.0], "south": [0.0, -1.0], "up": [0.1, 0.9], "right": [0.9, 0.1]}
LABELLED = Labelled("compass", TEXTS, {"q0": "up", "q1": "right"}, {"q0": {"d0": 1}, "q1": {"d1": 1}})


class Compass:
    """Turns every vector of a document by ``turn`` radians, and is ``length`` long."""

    def __init__(self, turn: float = 0.0, length: float = 1.0) -> None:
        self._turn, self._length = turn, length

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        angle = self._turn if role == "document" else 0.0
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return (self._length * np.array([DIRECTIONS[text] for text in texts]) @ matrix.T).astype(np.float32)


def words(texts: Sequence[str]) -> int:
    return len(texts)


def test_equal_embedders_agree_whole() -> None:
    found = compare_labelled(Compass(), Compass(), LABELLED, words)
    assert found.cosine(0) == found.cosine(50) == 1
    assert found.plain == found.fast == {"ndcg@10": 1.0, "recall@100": 1.0, "mrr@10": 1.0}
    assert found.ndcg_loss == 0
    found.must_reach("it", min_cosine_p1=1, max_ndcg_loss=0)


def test_lengths_of_vectors_are_no_disagreement() -> None:
    found = compare_labelled(Compass(), Compass(length=5), LABELLED, words)
    assert found.cosine(0) == pytest.approx(1)
    assert found.ndcg_loss == 0


def test_a_turned_embedder_is_told_by_cosine_and_by_ranking() -> None:
    found = compare_labelled(Compass(), Compass(turn=np.pi / 2), LABELLED, words)
    assert found.cosine(50) == pytest.approx(0, abs=1e-6)
    assert found.ndcg_loss is not None
    assert found.ndcg_loss > 0.2
    with pytest.raises(
        GateRefused, match=r"cosine p1 is -?0\.000000, and at least 0\.99 .* nDCG@10 falls by \d+\.\d+%"
    ):
        found.must_reach("the file", min_cosine_p1=0.99, max_ndcg_loss=0.01)


def test_each_gate_refuses_alone() -> None:
    near = compare_texts(Compass(), Compass(turn=0.1), list(TEXTS.values()), words)
    assert near.ndcg_loss is None
    near.must_reach("it", min_cosine_p1=0.99, max_ndcg_loss=0)
    with pytest.raises(GateRefused, match=r"cosine p1 is 0\.995004"):
        near.must_reach("it", min_cosine_p1=0.999, max_ndcg_loss=0)


def test_a_vector_without_direction_agrees_with_nothing() -> None:
    assert compare_texts(Compass(), Compass(length=0), list(TEXTS.values()), words).cosine(50) == 0


@pytest.mark.parametrize("name", ["agreement.svg", "agreement.png"])
def test_the_picture_is_drawn_with_and_without_rankings(tmp_path: Path, name: str) -> None:
    cosines = 1 - np.abs(np.random.default_rng(1).normal(0, 0.001, 500))
    ranked = {"ndcg@10": 0.645, "recall@100": 0.925}
    for agreement in (Agreement(cosines, 1, 1.0, 1.0), Agreement(cosines, 1, 1.0, 1.0, ranked, ranked),
                      Agreement(np.ones(3), 1, 1.0, 1.0, ranked, ranked)):  # fmt: skip
        plot_agreement(agreement, tmp_path / name, plain="encode(), fp32", fast="onnx, int8", data="a set")
        assert (tmp_path / name).stat().st_size > 5_000


def test_another_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ends in \.svg or \.png"):
        plot_agreement(Agreement(np.ones(3), 1, 1.0, 1.0), tmp_path / "a.gif", plain="a", fast="b", data="c")
