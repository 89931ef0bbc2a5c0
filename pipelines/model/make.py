"""Make a derived file, measure it, and put it into the store with its card if it agrees with its original. Knows no
commands."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from pipelines.digest import canonical_json
from pipelines.embed.backends import open_embedder
from pipelines.embed.cards import DerivedCard, model_card
from pipelines.embed.embedder import TokenIds
from pipelines.embed.models import Model, file_digest, resolve_derived
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import ModelTokenizer
from pipelines.labelled import Labelled
from pipelines.model.agreement import Agreement, Report, compare_labelled, compare_texts
from pipelines.model.extras import has, need
from pipelines.model.originals import fp32_file, model_of, open_fp32
from pipelines.model.quantize import Method, quantize_dynamic, quantize_static
from pipelines.model.shelf import Shelved, shelve_derived
from pipelines.storage import StorageSettings
from pipelines.store import Store

_EXPORTERS = ("torch", "sentence_transformers", "onnx", "onnxscript")
_EXPORT_COSINE_P1 = 0.9999  # fp32 in another order of sums moves a vector by about 1e-7


_HELD_OUT = 3  # every third text of a sample
_MEND = {
    "fp32": "use embed.backend: torch for this model",
    "int8": "try another --method or a bigger --sample, or move the gate: --min-cosine-p1, --max-ndcg-loss",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where models are read and written, what with, and who is told of progress."""

    store: Store
    embed: EmbedSettings
    storage: StorageSettings | None
    report: Report = lambda done, total: None  # how many of how many documents were compared


@dataclass(frozen=True, slots=True)
class Gates:
    """What a derived file must reach; ``max_ndcg_loss`` is relative, 0.01 for one percent."""

    min_cosine_p1: float = 0.99
    max_ndcg_loss: float = 0.01


@dataclass(frozen=True, slots=True)
class Made:
    shelved: Shelved
    card: DerivedCard
    agreement: Agreement


def export_model(place: Place, texts: Sequence[str]) -> Made:
    """The model's fp32 ONNX file, compared with ``encode()`` on ``texts``.

    Raises:
        SettingsError: the extra ``torch`` is missing, or the model cannot be exported.
        GateRefused: the file gives other vectors; nothing was kept.
    """
    need("torch", "the ONNX file of a model", *_EXPORTERS)
    from pipelines.model.export import export_onnx  # after the check: importing torch takes seconds

    model = model_of(place.embed, place.storage)
    with tempfile.TemporaryDirectory(prefix="backhaul-export-") as folder:
        file = Path(folder, "model.onnx")
        export_onnx(model, file)
        gates = Gates(min_cosine_p1=_EXPORT_COSINE_P1)
        return _keep(place, model, file, "fp32", texts, gates, None, {"method": "export"})


def quantize_model(place: Place, texts: Sequence[str], *, method: Method, gates: Gates,
                   labelled: Labelled | None = None) -> Made:  # fmt: skip
    """An int8 file of the model's fp32 ONNX file, which is exported first if the store has none.

    Args:
        texts: the sample, as they are embedded. Two of three calibrate (``static``); every third is kept apart, since a file
            agrees best on what it was calibrated with.
        labelled: where given, agreement is measured on it, retrieval included; otherwise on the texts kept apart.

    Raises:
        SettingsError: an extra is missing.
        GateRefused: it agrees less with the original than ``gates`` ask; nothing was kept.
    """
    need("openvino", f"{method} quantisation", *(("nncf", "openvino", "onnx") if method == "static" else ("onnx",)))
    model = model_of(place.embed, place.storage)
    fp32 = _fp32(place, model, texts)
    seen = [text for i, text in enumerate(texts) if i % _HELD_OUT]
    unseen = list(texts[::_HELD_OUT])
    with tempfile.TemporaryDirectory(prefix="backhaul-quantize-") as folder:
        file = Path(folder, "model.onnx")
        rows = [row.astype(np.int64) for row in _ids(model, seen)]
        if method == "static":
            quantize_static(fp32, rows, file)
        else:
            quantize_dynamic(fp32, file)
        facts = {"method": method, "made_from": file_digest(fp32, model.reference),
                 "calibrated_on": len(rows) if method == "static" else 0}  # fmt: skip
        return _keep(place, model, file, "int8", unseen, gates, labelled, facts)


def _fp32(place: Place, model: Model, texts: Sequence[str]) -> Path:
    """The store's fp32 file, one that is exported now, or where torch is missing the one in the model's folder."""
    if found := fp32_file(place.store, model, place.storage):
        return found
    if model.onnx and not has(*_EXPORTERS):
        return model.onnx
    made = export_model(place, texts)
    return resolve_derived(made.shelved.reference, model, place.storage).file


def count_tokens(model: Model, texts: Sequence[str]) -> int:
    """Tokens that the model sees of these documents."""
    return sum(map(len, _ids(model, texts)))


def _ids(model: Model, texts: Sequence[str]) -> list[TokenIds]:
    tokenizer = ModelTokenizer(model.tokenizer, model.space.tokenizer)
    return tokenizer.ids(texts, model.space.document_prompt, model.space.max_tokens)


def _keep(place: Place, model: Model, file: Path, precision: Literal["fp32", "int8"], texts: Sequence[str], gates: Gates,
          labelled: Labelled | None, facts: dict[str, Any]) -> Made:  # fmt: skip
    """Measure through the embedder that will use the file; keep it if it passes."""
    original, pooled = model_card(model.reference, model.folder), _is_pooled(file)
    card = DerivedCard(
        format=1,
        reference=f"models/{model.space.weights}/derived/{file_digest(file, model.reference)}/model.onnx",
        sha256=file_digest(file, model.reference),
        original=model.space.weights,
        precision=precision,
        licence=original.licence if original else "that of its original",
        agreement={},
        pooling=model.config.pooling if pooled else None,
        normalized=model.config.normalized if pooled else None,
        dimensions=model.config.dimensions,
        **facts,
    )
    file.with_suffix(".json").write_bytes(canonical_json(card.model_dump(mode="json")))  # the embedder asks for one
    runtime = "openvino" if has("openvino") else "onnx"
    onnx = place.embed.model_copy(update={"backend": runtime, "derived": f"file://{file}", "precision": None})
    fast, (plain, name) = open_embedder(onnx, place.storage), open_fp32(place.store, place.embed, place.storage)

    def count(some: Sequence[str]) -> int:
        return count_tokens(model, some)

    agreement = (
        compare_labelled(plain, fast, labelled, count, place.report) if labelled
        else compare_texts(plain, fast, texts, count, place.report))  # fmt: skip
    agreement.must_reach(f"the {precision} file", min_cosine_p1=gates.min_cosine_p1, max_ndcg_loss=gates.max_ndcg_loss,
                         mend=_MEND[precision])  # fmt: skip
    measured = agreement.to_json() | {
        "compared_with": name,
        "data": labelled.name if labelled else f"{len(texts):,} texts of the corpus, none of them calibrated with",
        "threads": onnx.threads, "batch_tokens": onnx.batch_tokens, "hardware": fast.maker.hardware,
        "versions": dict(fast.maker.versions), "measured": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    card = card.model_copy(update={"agreement": measured})
    return Made(shelve_derived(place.store, file, card), card, agreement)


def _is_pooled(file: Path) -> bool:
    """Whether the file gives one vector a text, and not one a token."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return len(session.get_outputs()[0].shape) == 2
