"""Settings of the query service. Knows no HTTP."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.service.audit import AuditSettings
from jobs.service.auth import AuthSettings
from jobs.service.limits import ConnectionSettings, LimitSettings


class CacheSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    vectors: int = Field(10_000, ge=0, description="query vectors kept; 0: none")
    vectors_ttl_s: float = Field(3600.0, gt=0, description="seconds that a query vector is kept")
    results: int = Field(2_000, ge=0, description="answers kept; 0: none")
    results_ttl_s: float = Field(60.0, gt=0, description="seconds that an answer is kept, while its generation is live")
    warmed: int = Field(
        200, ge=0, description="most frequent questions asked of a new generation before it answers for the live one"
    )


class TlsSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: str | None = Field(
        None, description="file of the certificate chain (PEM); set, the service speaks TLS"
    )
    key: str | None = Field(None, description="file of its private key (PEM)")

    @model_validator(mode="after")
    def _both_or_none(self) -> TlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("serve.tls needs both certificate and key, or neither")
        return self


class ServeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    connections: ConnectionSettings = ConnectionSettings()
    cache: CacheSettings = CacheSettings()
    audit: AuditSettings = AuditSettings()
    tls: TlsSettings = TlsSettings()
    follow_s: float = Field(1.0, gt=0, le=60, description="seconds between two looks at which generation is live")
    deregistration_s: float = Field(
        5.0, ge=0, description="seconds after SIGTERM in which the service still answers, while readyz says no"
    )
    drain_s: float = Field(10.0, ge=0, description="seconds then left to requests under way")
    backend: Literal["onnx", "openvino", "torch"] | None = Field(
        None,
        description="computes the vectors of queries, in the same Space; null: openvino where it is installed and the run "
        "has onnx, as it takes half of the time, else the run's own",
    )
    threads: int = Field(2, ge=1, description="threads that embed one query")
    batch: int = Field(16, ge=1, le=256, description="queries that are embedded together when they come at once")
