"""Which class serves which ``embed.backend``, and what can be said of it without loading a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

from pipelines.embed.embedder import Embedder, Tokenizer
from pipelines.embed.hashing import HashEmbedder, hash_space
from pipelines.embed.local import LocalEmbedder
from pipelines.embed.models import Model, resolve_derived, resolve_model
from pipelines.embed.remote_models import remote_maker, remote_space, remote_tokenizer
from pipelines.embed.remote_settings import REMOTE
from pipelines.embed.settings import Backend, EmbedSettings
from pipelines.embed.tokens import ModelTokenizer, WordTokenizer
from pipelines.errors import SettingsError
from pipelines.space import RequestedMaker, Space
from pipelines.storage import StorageSettings


def open_embedder(settings: EmbedSettings, storage: StorageSettings | None = None) -> Embedder:
    """Load the model, or ask the service that has it for one vector; once per process.

    Raises:
        EmbedderHalted: the service refuses or does not answer.
        SettingsError: the model or the backend is not installed, or cannot do what is asked.
        GateRefused: a digest or a card does not fit.
    """
    return _BACKENDS[settings.backend](settings, storage)


def open_query_embedder(settings: EmbedSettings, storage: StorageSettings | None = None, *, threads: int,
                        backend: Backend | None = None) -> Embedder:  # fmt: skip
    """The same Space for one query at a time: all ``threads`` work on one batch.

    Args:
        backend: None for OpenVINO where it is installed and ONNX Runtime is asked for, as it takes half of the time for
            a query with the same file; else that of the settings.

    Raises:
        As ``open_embedder``.
    """
    if backend is None and settings.backend == "onnx" and find_spec("openvino"):
        backend = "openvino"
    settings = settings.model_copy(update={"threads": threads, "backend": backend or settings.backend})
    if settings.backend == "openvino":
        return _openvino(settings, storage, single=True)
    return open_embedder(settings, storage)


def open_tokenizer(settings: EmbedSettings, storage: StorageSettings | None = None) -> Tokenizer:
    """The tokenizer that counts what ``open_embedder`` would embed as documents, prompt included."""
    if settings.backend == "hash":
        return WordTokenizer()
    if settings.backend in REMOTE:
        return remote_tokenizer(settings, storage, "document")
    model = _model(settings, storage)
    return ModelTokenizer(model.tokenizer, model.space.tokenizer, model.space.document_prompt)


def space_of(settings: EmbedSettings, storage: StorageSettings | None = None) -> Space:
    """The Space of the vectors that ``open_embedder`` would give."""
    if settings.backend == "hash":
        return hash_space(settings.dimensions or 0)
    if settings.backend in REMOTE:
        return remote_space(settings, storage)
    return _model(settings, storage).space


def requested_maker(settings: EmbedSettings, storage: StorageSettings | None = None) -> RequestedMaker:
    """What the plan asks for. Precision null is that of the file which computes; torch computes with the original."""
    if settings.backend in REMOTE:
        return remote_maker(settings)
    plain = RequestedMaker(settings.backend, "fp32", settings.threads, settings.batch_tokens)
    if settings.backend in ("onnx", "openvino"):
        derived = resolve_derived(settings.derived, _model(settings, storage), storage)
        plain = replace(plain, precision=derived.precision, derived=derived.digest)
    possible = [plain.precision, *_LOWER.get((plain.backend, plain.precision), ())]
    if settings.backend == "hash" or settings.precision is None:
        return plain
    if settings.precision not in possible:
        raise SettingsError(
            f"embed.precision is {settings.precision}, but backend {settings.backend} computes in {' or '.join(possible)} with "
            f"{_computing_file(settings)}; set embed.precision: {' or '.join(possible)}, or leave it out"
        )
    return replace(plain, precision=settings.precision)


def _hash(settings: EmbedSettings, storage: StorageSettings | None) -> Embedder:
    return HashEmbedder(settings, requested_maker(settings, storage))


def _onnx(settings: EmbedSettings, storage: StorageSettings | None) -> Embedder:
    from pipelines.embed.on_onnx import OnnxRuntime

    requested, model = requested_maker(settings, storage), _model(settings, storage)
    derived = resolve_derived(settings.derived, model, storage)
    return LocalEmbedder(model, requested, OnnxRuntime(settings.threads, model, derived))


def _openvino(settings: EmbedSettings, storage: StorageSettings | None, *, single: bool = False) -> Embedder:
    requested, model = requested_maker(settings, storage), _model(settings, storage)
    from pipelines.embed.on_openvino import OpenVinoRuntime  # after the checks, as importing it takes a second

    derived = resolve_derived(settings.derived, model, storage)
    return LocalEmbedder(model, requested, OpenVinoRuntime(requested, model, derived, single=single))


def _torch(settings: EmbedSettings, storage: StorageSettings | None) -> Embedder:
    requested, model = requested_maker(settings, storage), _model(settings, storage)
    from pipelines.embed.on_torch import TorchRuntime  # after the checks: importing torch takes seconds

    return LocalEmbedder(model, requested, TorchRuntime(requested, model))


# What a backend makes of a file in fp32 when it is asked to.
_LOWER = {("torch", "fp32"): ("bf16", "fp16"), ("openvino", "fp32"): ("bf16",)}


def _auto(settings: EmbedSettings, storage: StorageSettings | None) -> Embedder:
    raise SettingsError("embed.backend auto stands for what the store says; pipelines.model.choice.chosen replaces it")


def _remote(settings: EmbedSettings, storage: StorageSettings | None) -> Embedder:
    from pipelines.embed.remote import open_remote

    return open_remote(settings, requested_maker(settings, storage), storage)


_BACKENDS: dict[str, Callable[[EmbedSettings, StorageSettings | None], Embedder]] = {
    "auto": _auto,
    "hash": _hash,
    "onnx": _onnx,
    "openvino": _openvino,
    "torch": _torch,
    **dict.fromkeys(REMOTE, _remote),
}


def _model(settings: EmbedSettings, storage: StorageSettings | None) -> Model:
    return resolve_model(settings.model, digest=settings.digest, storage=storage,
                         dimensions=settings.dimensions)  # fmt: skip


def _computing_file(settings: EmbedSettings) -> str:
    return (settings.backend in ("onnx", "openvino") and settings.derived) or settings.model
