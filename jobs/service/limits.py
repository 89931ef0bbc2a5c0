"""Bounds of the query service, as settings. Imported by every command, so it imports nothing else."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LimitSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_s: float | None = Field(None, gt=0, description="requests a second that a tenant may make; null: any")
    burst: int = Field(20, ge=1, description="requests that a tenant may make at once, where requests_per_s is set")
    tenants_kept: int = Field(10_000, ge=1, description="tenants whose rate is remembered, the latest ones")
    max_in_flight: int = Field(
        64, ge=1, description="requests that the index may have in hand at most; fewer as soon as they begin to queue"
    )
    start: int = Field(8, ge=1, description="requests in hand at most until answers have taught a better number")
    deadline_s: float = Field(2.0, gt=0, description="seconds after which a request is answered with an error")
    max_body_bytes: int = Field(
        256 << 10, ge=1024, description="bytes of a request's body; a vector of 4,096 numbers takes up to 100 KB"
    )
    max_query_characters: int = Field(2_000, ge=1, le=10_000, description="characters of a query")
    max_k: int = Field(100, ge=1, le=1_000, description="hits of one answer")
    depth: int = Field(
        100, ge=1, le=10_000, description="candidates of each side of a search, which is how far pages go"
    )
    max_filters: int = Field(8, ge=0, le=16, description="fields that a request may filter by")
    max_values: int = Field(64, ge=1, le=256, description="values that a filter may list")


class ConnectionSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    most: int = Field(1_000, ge=1, description="connections at once; one more is answered with 503 and closed")
    keep_alive_s: int = Field(
        75, ge=1, description="seconds that an idle connection is kept; longer than the load balancer keeps its own"
    )
    head_s: float = Field(10.0, gt=0, description="seconds that a request's head may take to come")
    body_s: float = Field(10.0, gt=0, description="seconds that a request's body may take to come")
    max_head_bytes: int = Field(32 << 10, ge=1024, description="bytes of a request's first line and headers")
