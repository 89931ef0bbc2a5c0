"""What the other modules of this package begin with: the fp32 computation of a model, as an embedder and as an ONNX file.
Knows where each may come from."""

from __future__ import annotations

from pathlib import Path

from pipelines.embed.backends import open_embedder
from pipelines.embed.models import Model, resolve_derived, resolve_model
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import GateRefused, SettingsError
from pipelines.model.agreement import Embeds
from pipelines.model.extras import has
from pipelines.model.shelf import find_derived
from pipelines.storage import StorageSettings
from pipelines.store import Store


def model_of(embed: EmbedSettings, storage: StorageSettings | None) -> Model:
    """Raises SettingsError for backend hash, which has no model."""
    if embed.backend == "hash":
        raise SettingsError("backend hash has no model; set embed.backend to another one")
    return resolve_model(embed.model, digest=embed.digest, storage=storage, dimensions=embed.dimensions)


def open_fp32(store: Store, embed: EmbedSettings, storage: StorageSettings | None) -> tuple[Embeds, str]:
    """What everything is compared with, and its name: ``encode()`` of sentence-transformers, or without torch an fp32 ONNX
    file of the model.

    Raises:
        SettingsError: there is neither.
    """
    model = model_of(embed, storage)
    if has("torch", "sentence_transformers"):
        from pipelines.model.plain import PlainEncoder

        return PlainEncoder(model, embed.threads), PlainEncoder.name
    reference = find_fp32(store, model, storage)
    if reference is None and model.onnx is None:
        raise SettingsError(
            "nothing to compare with: torch is not installed (extra `torch`), and neither the model's folder nor the store "
            "holds an fp32 ONNX file of it (`backhaul model export CONF` makes one where torch is)"
        )
    onnx = embed.model_copy(update={"backend": "onnx", "derived": reference, "precision": None})
    return open_embedder(onnx, storage), "fp32 ONNX file"


def find_fp32(store: Store, model: Model, storage: StorageSettings | None) -> str | None:
    """The reference of an fp32 ONNX file of the model in the store."""
    for reference, _ in find_derived(store, model.space.weights, "fp32"):
        try:
            resolve_derived(reference, model, storage)
        except GateRefused:
            continue  # made when the model's files asked for other pooling, or damaged
        return reference
    return None


def fp32_file(store: Store, model: Model, storage: StorageSettings | None) -> Path | None:
    """The fp32 ONNX file of the model in the store, on this host."""
    reference = find_fp32(store, model, storage)
    return resolve_derived(reference, model, storage).file if reference else None
