"""One line a request."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class AuditSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Audit:
    def __init__(self, settings: AuditSettings) -> None:
        pass

    def write(self, **facts: Any) -> None:
        pass
