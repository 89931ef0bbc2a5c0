"""Whether a service runs the model that it is said to run: its vectors beside the model's own, where those are cheap.

A service that runs another model of the same size gives vectors that nothing else would find wrong: searches with
vectors made here would be nonsense. Knows ONNX files of at most ``CHEAP_BYTES``; larger models are taken at the word
of whoever declared them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.embed.embedder import Embedder, Vectors
from pipelines.embed.local import LocalEmbedder
from pipelines.embed.models import Derived, Model, resolve_derived, resolve_model
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import RequestedMaker
from pipelines.storage import StorageSettings

CHEAP_BYTES = 200 << 20
AGREES = 0.98  # cosine; half precision and int8 weights stay above 0.998, another pooling or prompt falls below 0.95
_TEXTS = (
    "The harbour pilot boarded at dawn.",
    "A vector index answers which rows are near a question; it is built once from all rows, merged, warmed, and only "
    "then made visible, so that nobody asks one that is half there.",
    "Größe, naïve, 東京: 3.14 & more",
)


def compare_with_own(embedder: Embedder, settings: EmbedSettings, storage: StorageSettings | None) -> str:
    """What was found, for people, to be put after a sentence.

    Raises:
        GateRefused: the service runs another model, or the same one otherwise.
    """
    model = resolve_model(settings.model, digest=settings.digest, storage=storage)
    derived = _cheap_file(settings, model, storage)
    if derived is None:
        return f"; not compared with {settings.model}, of which no ONNX file below {CHEAP_BYTES >> 20} MB is here"
    theirs, own = embedder.embed(_TEXTS, "document"), _own_vectors(settings, model, derived)
    cosines = np.sum(theirs * own, axis=1) / (np.linalg.norm(theirs, axis=1) * np.linalg.norm(own, axis=1))
    worst = float(cosines.min())
    if not worst >= AGREES:
        raise GateRefused(
            f"the service that embed.remote names does not run {settings.model} as it is here: cosines with the model's own "
            f"vectors are as low as {worst:.3f} (at least {AGREES} is expected). Let it run that model with its pooling and "
            "normalisation, or leave embed.remote.serves_model out and declare the model that it runs"
        )
    return f"; cosine with the vectors of {settings.model} {worst:.4f} or more"


def _cheap_file(settings: EmbedSettings, model: Model, storage: StorageSettings | None) -> Derived | None:
    """``embed.derived`` is a file of ``embed.model``, or one that base.yaml names for another model."""
    for reference in dict.fromkeys((settings.derived, None)):
        try:
            found = resolve_derived(reference, model, storage)
        except (GateRefused, SettingsError):
            continue
        if Path(found.file).stat().st_size <= CHEAP_BYTES:
            return found
    return None


def _own_vectors(settings: EmbedSettings, model: Model, derived: Derived) -> Vectors:
    from pipelines.embed.on_onnx import OnnxRuntime

    requested = RequestedMaker("onnx", derived.precision, 1, settings.batch_tokens)
    return LocalEmbedder(model, requested, OnnxRuntime(1, model, derived)).embed(_TEXTS, "document")
