"""Mean, first-token and last-token pooling, prompts by role and Matryoshka dimensions, on encoders and decoders: torch and the
exported file beside sentence-transformers' own ``encode()``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipelines.embed.backends import open_embedder, space_of
from pipelines.embed.batches import kept_dimensions
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.models import Model, resolve_model
from pipelines.embed.onnx_file import _pool
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError
from pipelines.space import RequestedMaker
from tests.model.tiny import DIMENSIONS, MAX_TOKENS, TEXTS, tiny_model

absent = importlib.util.find_spec("sentence_transformers") is None
pytestmark = [pytest.mark.torch, pytest.mark.skipif(absent, reason="the torch extra is not installed")]

FAMILIES = [("bert", "mean"), ("bert", "cls"), ("modernbert", "mean"), ("qwen3", "lasttoken"),
            ("llama", "lasttoken"), ("mistral", "lasttoken")]  # fmt: skip
EXPORTED = [("bert", "cls"), ("qwen3", "lasttoken"), pytest.param("modernbert", "mean", marks=pytest.mark.soak)]
PROMPTS = {"prompts": {"query": "query: ", "document": "passage: "}}
ROLES: tuple[Role, ...] = ("document", "query")


def settings(reference: str, **more: object) -> EmbedSettings:
    return EmbedSettings.model_validate({"backend": "torch", "model": reference, "threads": 1, **more})


def encoded(reference: str, role: Role, *, normalize: bool = False, dimensions: int | None = None) -> Vectors:
    """By the names that sentence-transformers' own users call, with the model loaded as they load it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        reference.removeprefix("file://"), device="cpu", local_files_only=True, truncate_dim=dimensions
    )
    encode = model.encode_query if role == "query" else model.encode_document
    found: Vectors = encode(TEXTS, normalize_embeddings=normalize)
    return found


def resolve(reference: str) -> Model:
    return resolve_model(reference, digest=None, storage=None)


@pytest.mark.parametrize(("kind", "pooling"), FAMILIES)
def test_torch_gives_what_encode_gives(tmp_path: Path, kind: str, pooling: str) -> None:
    reference = tiny_model(tmp_path / kind, kind, pooling, own=PROMPTS)
    embedder = open_embedder(settings(reference))
    assert (embedder.space.pooling, embedder.space.dimensions, embedder.space.max_tokens) == (
        pooling,
        DIMENSIONS,
        MAX_TOKENS,
    )
    for role in ROLES:
        np.testing.assert_allclose(embedder.embed(TEXTS, role), encoded(reference, role), atol=1e-5)


@pytest.mark.parametrize(("kind", "packed"), [("bert", True), ("modernbert", False), ("qwen3", False)])
def test_only_a_model_that_gives_the_same_without_padding_goes_without(tmp_path: Path, kind: str, packed: bool) -> None:
    from pipelines.embed.on_torch import TorchRuntime

    requested = RequestedMaker("torch", "fp32", 1, 512)
    runtime = TorchRuntime(requested, resolve(tiny_model(tmp_path / kind, kind, "mean")))
    assert (runtime.submit == runtime._submit_packed) == packed


@pytest.mark.parametrize(("kind", "pooling"), EXPORTED)
def test_the_exported_file_gives_what_encode_gives(tmp_path: Path, kind: str, pooling: str) -> None:
    from pipelines.model.export import export_onnx

    reference = tiny_model(tmp_path / kind, kind, pooling, own=PROMPTS)
    model = resolve(reference)
    file = tmp_path / kind / "model.onnx"
    export_onnx(model, file)  # found beside the model, as an export of its authors would be
    session = onnxruntime.InferenceSession(str(file))
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [(one.name, one.shape[1:]) for one in session.get_outputs()] == [("sentence_embedding", [DIMENSIONS])]
    assert b"site-packages" not in file.read_bytes()
    embedder = open_embedder(settings(reference, backend="onnx"))
    for role in ROLES:
        np.testing.assert_allclose(embedder.embed(TEXTS, role), encoded(reference, role), atol=1e-5)


@pytest.mark.soak
def test_the_same_model_is_exported_to_the_same_bytes(tmp_path: Path) -> None:
    from pipelines.model.export import export_onnx

    for name in ("one", "other"):
        export_onnx(resolve(tiny_model(tmp_path / name, "bert", "mean")), tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_token_embeddings_are_pooled_as_sentence_transformers_does(pooling: str) -> None:
    """Of files that others export, which end before pooling."""
    import torch
    from sentence_transformers.models import Pooling

    hidden = np.random.default_rng(1).normal(size=(3, 7, 4)).astype(np.float32)
    mask = np.array([[1] * 7, [1] * 3 + [0] * 4, [1] + [0] * 6])
    features = {"token_embeddings": torch.from_numpy(hidden), "attention_mask": torch.from_numpy(mask)}
    theirs = Pooling(4, pooling_mode=pooling)(features)["sentence_embedding"].numpy()
    np.testing.assert_allclose(_pool(hidden, mask, pooling), theirs, atol=1e-6)


def test_dimensions_keep_the_leading_components_at_length_one(tmp_path: Path) -> None:
    reference = tiny_model(tmp_path, "bert", "mean")
    embedder = open_embedder(settings(reference, dimensions=8))
    assert embedder.space.dimensions == 8
    found = embedder.embed(TEXTS, "document")
    np.testing.assert_allclose(found, encoded(reference, "document", normalize=True, dimensions=8), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_vectors_that_had_no_length_of_one_are_only_cut(tmp_path: Path) -> None:
    reference = tiny_model(tmp_path, "bert", "mean", normalized=False)
    found = open_embedder(settings(reference, dimensions=8)).embed(TEXTS, "document")
    np.testing.assert_allclose(found, encoded(reference, "document", dimensions=8), atol=1e-5)


def test_the_dimensions_that_a_model_says_of_itself_are_kept(tmp_path: Path) -> None:
    reference = tiny_model(tmp_path, "bert", "mean", normalized=False, own={"truncate_dim": 16})
    embedder = open_embedder(settings(reference))
    assert embedder.space.dimensions == 16
    np.testing.assert_allclose(embedder.embed(TEXTS, "document"), encoded(reference, "document"), atol=1e-5)


def test_dimensions_are_part_of_the_space_and_all_of_them_are_the_same_space(tmp_path: Path) -> None:
    reference = tiny_model(tmp_path, "bert", "mean")
    whole = space_of(settings(reference))
    assert space_of(settings(reference, dimensions=8)).difference(whole) == ["dimensions: 8 here, 32 there"]
    assert space_of(settings(reference, dimensions=DIMENSIONS)) == whole


def test_more_dimensions_than_the_model_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"embed\.dimensions is 64, and .* has 32"):
        space_of(settings(tiny_model(tmp_path, "bert", "mean"), dimensions=64))


def test_whole_vectors_are_left_as_they_are() -> None:
    vectors = np.full((2, 4), 3.0, dtype=np.float32)
    assert kept_dimensions(vectors, 4, normalized=True) is vectors
