"""What a generation must show before it may go live."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VerifySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_recall: float = Field(0.9, ge=0, le=1, description="least recall@k of approximate against exact search")
    recall_k: int = Field(
        10, ge=1, le=1000, description="k of that recall, and of the overlap with the live generation"
    )
    recall_queries: int = Field(50, ge=1, le=10_000, description="stored vectors sampled as its queries")
    golden: str | None = Field(
        None, description='file or uri of golden queries, JSON Lines of {"query": text, "document_ids": […]}'
    )
    golden_mode: Literal["vector", "lexical", "hybrid"] = Field("hybrid", description="vector | lexical | hybrid")
    golden_k: int = Field(10, ge=1, le=1000, description="documents among which an expected one must be")
    min_golden: float = Field(1.0, ge=0, le=1, description="least share of golden queries that find one")
    min_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="least mean share of documents in common with the live generation; null: told only",
    )
    max_p99_ms: float | None = Field(None, gt=0, description="most milliseconds of the p99 search; null: told only")
    green_within_s: float = Field(600.0, ge=0, description="seconds to wait for replicas that are being copied")
