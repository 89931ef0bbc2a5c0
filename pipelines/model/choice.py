"""What ``embed.backend: auto`` stands for: the fastest way to embed that was measured, kept in the store beside the model.

Measures nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.digest import canonical_json
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings, Precision
from pipelines.errors import NotFound, SettingsError
from pipelines.storage import StorageSettings
from pipelines.store import Store


class Choice(BaseModel):
    """``settings`` are the keys of ``embed`` that it decides. Rates are tokens a second, padding not counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    backend: Literal["onnx", "openvino", "torch"]
    precision: Precision
    derived: str | None
    batch_tokens: int
    threads: int
    tokens_per_s: float
    cosine_p1: float | None
    hardware: str

    @property
    def settings(self) -> dict[str, Any]:
        return self.model_dump(include={"backend", "precision", "derived", "batch_tokens", "threads"})


def keep_choice(store: Store, weights: str, choice: Choice) -> None:
    store.put(_key(weights), canonical_json(choice.model_dump(mode="json")))


def read_choice(store: Store, weights: str) -> Choice | None:
    """Raises SettingsError for a record that this version cannot read."""
    try:
        data = store.get(_key(weights))
    except NotFound:
        return None
    try:
        return Choice.model_validate_json(data)
    except ValidationError as error:
        raise SettingsError(
            f"{store.uri}/{_key(weights)} is no choice that this version reads; `backhaul doctor CONF --benchmark` makes it anew"
        ) from error


def chosen(embed: EmbedSettings, store: Store, storage: StorageSettings | None) -> EmbedSettings:
    """``embed`` with ``auto`` replaced: by what was chosen for these weights, else by the safe default, which is ONNX
    Runtime where the model has an ONNX file, and torch in fp32 where it has none. Others are left as they are."""
    if embed.backend != "auto":
        return embed
    model = resolve_model(embed.model, digest=embed.digest, storage=storage, dimensions=embed.dimensions)
    if choice := read_choice(store, model.space.weights):
        return embed.model_copy(update=choice.settings)
    has_file = embed.derived is not None or model.onnx is not None
    return embed.model_copy(update={"backend": "onnx" if has_file else "torch"})


def _key(weights: str) -> str:
    return f"models/{weights}/choice.json"
