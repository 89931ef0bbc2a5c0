"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field


class AuthSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "api_keys", "jwt"] = Field("none", description="none (on loopback only) | api_keys | jwt")


@dataclass(frozen=True, slots=True)
class Caller:
    subject: str
    tenant: str | None


class Unauthorized(Exception):
    pass


class Forbidden(Exception):
    pass


class Gatekeeper(Protocol):
    def admit(self, authorization: str | None) -> Caller: ...


class _Open:
    def __init__(self, tenant: str | None) -> None:
        self._caller = Caller("anonymous", tenant)

    def admit(self, authorization: str | None) -> Caller:
        return self._caller


def open_gatekeeper(settings: AuthSettings, tenant: str | None) -> Gatekeeper:
    return _Open(tenant)
