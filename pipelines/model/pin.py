"""Pin a model: its files into the store, by digest, with a card. Knows no runtime and loads no weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.embed.cards import MODEL_CARD, ModelCard, model_card
from pipelines.embed.models import Model, file_digest, resolve_model
from pipelines.embed.references import locate
from pipelines.model.hub import download_from_hub
from pipelines.model.licence import licence_of
from pipelines.model.shelf import Shelved, shelve_model
from pipelines.storage import StorageSettings
from pipelines.store import Store

_SUFFIXES = (".safetensors", ".json", ".txt", ".model")
_EXPORTS = ("onnx", "openvino")  # folders of files derived by others, of which no card says how well they agree


@dataclass(frozen=True, slots=True)
class Pinned:
    """``files`` counts what was copied or lay there, ``bytes`` is their size."""

    shelved: Shelved
    card: ModelCard
    bytes: int


def pin_model(store: Store, reference: str, *, digest: str | None, storage: StorageSettings | None,
              licence: str | None) -> Pinned:  # fmt: skip
    """Copy the model that ``reference`` names into the store.

    Args:
        digest: SHA-256 that the weights must have.
        licence: as its user says; None asks the model's card, then its README.

    Raises:
        SettingsError: nothing is there, it is no model that this version reads, or its licence is unknown.
        GateRefused: it is not what its card or ``digest`` says.
        StoreError: a store or the hub could not be reached.
    """
    with _local(reference, storage) as (found, origin):
        model = resolve_model(found, digest=digest, storage=storage)
        files = _files(model)
        known = model_card(found, model.folder)
        said, says = licence_of(model.folder, known, licence)
        card = ModelCard(
            format=1,
            reference=known.reference if known else origin,
            weights=model.space.weights,
            tokenizer=model.space.tokenizer,
            licence=said,
            files={name: file_digest(path, reference) for name, path in files.items()},
            licence_source=says,  # cards take more than is asked of them
        )
        return Pinned(shelve_model(store, files, card), card, sum(path.stat().st_size for path in files.values()))


@contextmanager
def _local(reference: str, storage: StorageSettings | None) -> Iterator[tuple[str, str]]:
    """A reference that leads somewhere on this host, and the origin to write down."""
    if not reference.startswith("hub:"):
        locate(reference, storage, "embed.model")  # its error comes first
        yield reference, reference
        return
    with tempfile.TemporaryDirectory(prefix="backhaul-hub-") as folder:
        downloaded, origin = download_from_hub(reference, Path(folder))
        yield f"file://{downloaded}", origin


def _files(model: Model) -> dict[str, Path]:
    """What the model needs, by path in its folder: never a pickle, no hidden files, nobody's exports."""
    found = {}
    for path in sorted(path for path in model.folder.rglob("*") if path.is_file()):
        relative = path.relative_to(model.folder)
        skipped = relative.parts[0] in _EXPORTS or any(part.startswith(".") for part in relative.parts)
        if path.suffix in _SUFFIXES and path.name != MODEL_CARD and not skipped:
            found[relative.as_posix()] = path
    if model.onnx and not (model.config.transformer / "model.safetensors").exists():
        found[model.onnx.relative_to(model.folder).as_posix()] = model.onnx  # it is the weights
    return found
