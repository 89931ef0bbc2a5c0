"""What an ONNX file of a model takes and gives, whichever runtime computes it. Runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.embed.batches import Tokens, kept_dimensions, padded
from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.embed.models import Derived, Model
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import Space

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """``pooled``: it gives vectors, and not one of each token."""

    inputs: tuple[str, ...]
    pooled: bool
    pad_id: int
    space: Space

    def feed(self, rows: Sequence[TokenIds], multiple: int = 1) -> dict[str, Tokens]:
        """Inputs int64[len(rows), longest], the longest rounded up to a multiple."""
        ids, mask = padded(rows, self.pad_id, multiple)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    def vectors(self, found: Vectors, mask: Tokens) -> Vectors:
        """float32[n, dimensions] of the Space from what the file gave."""
        vectors = found if self.pooled else _pool(found, mask, self.space.pooling)
        vectors = kept_dimensions(vectors, self.space.dimensions, normalized=False)
        if self.space.normalized:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32, copy=False)


def describe(derived: Derived, model: Model, inputs: Collection[str], shape: Sequence[object]) -> OnnxFile:
    """``shape`` is that of the first output; what is dynamic in it may be anything.

    Raises:
        SettingsError: it wants other inputs than those of a text.
        GateRefused: its output is not the model's vectors, nor of its tokens.
    """
    if unknown := set(inputs) - _INPUTS:
        raise SettingsError(f"{derived.file} wants inputs {sorted(unknown)}; this version feeds {sorted(_INPUTS)}")
    if len(shape) not in (2, 3) or shape[-1] != model.config.dimensions:
        raise GateRefused(
            f"{derived.file} gives an output of shape {list(shape)}, but {model.reference} has "
            f"{model.config.dimensions} dimensions; set embed.derived to a file derived from this model"
        )
    return OnnxFile(tuple(inputs), len(shape) == 2, model.config.pad_id, model.space)


def _pool(hidden: Vectors, mask: Tokens, pooling: str) -> Vectors:
    """float32[n, dimensions] from token embeddings float32[n, tokens, dimensions]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        last: Vectors = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
        return last
    weights = mask[:, :, None].astype(np.float32)
    summed: Vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return summed
