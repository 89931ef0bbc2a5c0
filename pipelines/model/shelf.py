"""Models in the store, under ``<root>/models/``. A place follows from the bytes that lie there, and a card is written last:
a reader finds a whole model or none, and whoever writes it again writes the same. Knows no model formats.

    models/<weights>/<digest of all files>/…, backhaul-card.json       a pinned model
    models/<weights>/derived/<sha256>/model.onnx, model.json           a file derived from it, and its card
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipelines.digest import canonical_json, digest_of
from pipelines.embed.cards import MODEL_CARD, DerivedCard, ModelCard
from pipelines.errors import NotFound, SettingsError
from pipelines.store import Store


@dataclass(frozen=True, slots=True)
class Shelved:
    """``reference`` is what the settings name. ``written`` is False where all of it lay there already."""

    reference: str
    written: bool


def shelve_model(store: Store, files: Mapping[str, Path], card: ModelCard) -> Shelved:
    """Copy the files, by their paths in the model's folder, and then the card, which names their digests."""
    place = f"models/{card.weights}/{digest_of(card.files)[:16]}"
    written = [_put(store, f"{place}/{name}", files[name], sha256) for name, sha256 in sorted(card.files.items())]
    written.append(_put_card(store, f"{place}/{MODEL_CARD}", card))
    return Shelved(_reference(store, place), any(written))


def shelve_derived(store: Store, file: Path, card: DerivedCard) -> Shelved:
    """Copy an ONNX file, and then its card."""
    place = f"models/{card.original}/derived/{card.sha256}"
    written = _put(store, f"{place}/model.onnx", file, card.sha256)
    written |= _put_card(store, f"{place}/model.json", card)
    return Shelved(_reference(store, f"{place}/model.onnx"), written)


def find_derived(store: Store, original: str, precision: str) -> list[tuple[str, DerivedCard]]:
    """References and cards of the files of this precision that lie in the store for the weights ``original``, in order of
    their digests."""
    found = []
    for key in sorted(one.key for one in store.list(f"models/{original}/derived/") if one.key.endswith("/model.json")):
        try:
            card = DerivedCard.model_validate_json(store.get(key))
        except ValidationError:
            continue  # of another version of Backhaul, perhaps; who names it in the settings is told
        if card.precision == precision:
            found.append((_reference(store, key.removesuffix(".json") + ".onnx"), card))
    return found


def _put(store: Store, key: str, file: Path, sha256: str) -> bool:
    """False where these bytes are there. They are read back: who pins again may do so because a file was damaged."""
    try:
        sha = hashlib.sha256()
        for block in store.stream(key):
            sha.update(block)
        if sha.hexdigest() == sha256:
            return False
    except NotFound:
        pass
    store.put(key, file.read_bytes())
    return True


def _put_card(store: Store, key: str, card: BaseModel) -> bool:
    data = canonical_json(card.model_dump(mode="json"))
    try:
        if store.get(key) == data:
            return False
    except NotFound:
        pass
    store.put(key, data)
    return True


def _reference(store: Store, key: str) -> str:
    if store.uri.startswith("memory://"):
        raise SettingsError("root memory:// ends with this process, and a model with it; set another root")
    return f"{store.uri}/{key}"
