"""Limits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LimitSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_in_flight: int = Field(64, ge=1, description="requests in the index at once, at most")
    deadline_s: float = Field(2.0, gt=0, description="seconds that a request may take")
    max_query_characters: int = Field(2_000, ge=1, description="of a query")
    max_k: int = Field(100, ge=1, description="hits of one answer")
    depth: int = Field(100, ge=1, description="candidates of each side, and how far paging goes")
    max_filters: int = Field(8, ge=0, description="fields that one request filters by")
    max_values: int = Field(64, ge=1, description="values of one filter")


class Admitted:
    def leave(self, *, seconds: float | None, dropped: bool) -> None:
        pass


class Admission:
    in_flight = 0
    limit = 0

    def __init__(self, settings: LimitSettings) -> None:
        pass

    def enter(self, tenant: str | None) -> Admitted:
        return Admitted()
