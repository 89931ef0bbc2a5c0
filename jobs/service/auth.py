"""Who asks: the settings of tokens, and a token's way to a caller. Knows of HTTP one header's value.

Refusal (jobs/service/problems.py)
├── Unauthorized   401   no token, or none that is valid
└── Forbidden      403   a valid token that opens nothing here
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeGuard
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.service.problems import Refusal

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

MOST_CHARACTERS = 8_192
"""Of a token. Identity providers stay below 4 KB, since cookies and proxies take no more."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)  # RFC 6750, section 2.1
_NEEDED = {"none": (), "api_keys": ("api_keys",), "jwt": ("issuer", "audience")}


class AuthSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "api_keys", "jwt"] = Field(
        "none", description="who may ask: none (whoever is on this machine; loopback alone) | api_keys | jwt"
    )
    api_keys: str | None = Field(
        None, description="api_keys: the file with the keys' hashes; `backhaul key CONF` adds one"
    )
    issuer: str | None = Field(None, min_length=1, description="jwt: what the claim `iss` must be")
    audience: str | None = Field(None, min_length=1, description="jwt: what the claim `aud` must name")
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256",), min_length=1, description="jwt: accepted signatures; asymmetric ones alone"
    )
    jwks_url: str | None = Field(
        None, description="jwt: https address of the issuer's public keys (JWKS); http on loopback alone"
    )
    jwks_file: str | None = Field(None, description="jwt: a file with these keys, instead of jwks_url")
    jwks_ttl_s: float = Field(300.0, ge=1, le=86_400, description="jwt: seconds between two readings of these keys")
    jwks_stale_s: float = Field(
        3600.0, ge=0, le=604_800, description="jwt: seconds that known keys hold beyond that while they cannot be read"
    )
    leeway_s: float = Field(30.0, ge=0, le=300, description="jwt: how far clocks may differ, in seconds")
    tenant_claim: str = Field("tenant", min_length=1, description="jwt: the claim that holds the caller's tenant")
    tenantless: bool = Field(
        False, description="whether a token or key without a tenant is let in, and sees the rows of every tenant"
    )

    @field_validator("algorithms", mode="before")
    @classmethod
    def _is_asymmetric(cls, given: Any) -> Any:  # Any: as the file has it
        for name in given if isinstance(given, list | tuple) else ():
            if str(name).upper() == "NONE" or str(name).upper().startswith("HS"):
                raise ValueError(f"{name} is refused: with a shared secret, or with none, whoever checks a token could make "
                                 "one; name an asymmetric algorithm, such as RS256 or ES256")  # fmt: skip
        return given

    @field_validator("jwks_url")
    @classmethod
    def _is_private(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
                raise ValueError("the issuer's keys must come over https://, or from loopback: who can change them on "
                                 "their way can sign tokens")  # fmt: skip
            if not parts.hostname or parts.username is not None:
                raise ValueError("write it as https://host/path, without credentials")
        return url

    @model_validator(mode="after")
    def _is_whole(self) -> AuthSettings:
        if self.model_fields_set and "method" not in self.model_fields_set:
            raise ValueError(f"{', '.join(sorted(self.model_fields_set))}: without serve.auth.method nobody is asked for a "
                             "token; set it to api_keys or jwt, or to none if that is meant")  # fmt: skip
        if missing := [name for name in _NEEDED[self.method] if getattr(self, name) is None]:
            raise ValueError(f"method {self.method} needs serve.auth.{' and serve.auth.'.join(missing)}")
        if self.method == "jwt" and (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("method jwt needs one of serve.auth.jwks_url and serve.auth.jwks_file")
        return self


class Unauthorized(Refusal):
    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__("unauthorized", message, reason=reason)


class Forbidden(Refusal):
    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__("forbidden", message, reason=reason)


@dataclass(frozen=True, slots=True)
class Caller:
    """``tenant`` None: sees the rows of every tenant."""

    subject: str
    tenant: str | None


class Gatekeeper(Protocol):
    def admit(self, authorization: str | None) -> Caller:
        """The caller of a request with this Authorization header. Never waits.

        Raises:
            Refusal: Unauthorized, Forbidden, or that tokens cannot be checked just now. None says what was sent.
        """

    def close(self) -> None: ...


def open_gatekeeper(settings: AuthSettings, tenant: str | None) -> Gatekeeper:
    """``tenant``: the only one that the service answers for; None: whichever the tokens name.

    Raises:
        SettingsError: the file of keys, or the issuer's keys, cannot be read.
    """
    if settings.method == "none":
        return _Open(tenant)
    if settings.method == "api_keys":
        from jobs.service.api_keys import ApiKeys

        assert settings.api_keys is not None
        return _Guarded(ApiKeys(settings.api_keys).caller, settings, tenant)
    from jobs.service.tokens import open_tokens  # with cryptography: a tenth of a second, which no other command needs

    tokens = open_tokens(settings)
    return _Guarded(tokens.caller, settings, tenant, tokens.close)


class _Open:
    def __init__(self, tenant: str | None) -> None:
        self._caller = Caller("anonymous", tenant)

    def admit(self, authorization: str | None) -> Caller:
        return self._caller

    def close(self) -> None:
        pass


class _Guarded:
    """``caller_of`` makes a caller of a token."""

    def __init__(self, caller_of: Callable[[str], Caller], settings: AuthSettings, tenant: str | None,
                 close: Callable[[], None] = lambda: None) -> None:  # fmt: skip
        self._caller_of, self._tenantless, self._tenant = caller_of, settings.tenantless, tenant
        self.close = close

    def admit(self, authorization: str | None) -> Caller:
        caller = self._caller_of(bearer_token(authorization))
        if caller.tenant is None and not self._tenantless:
            raise Forbidden("the token names no tenant, and this service asks for one; get a token with the tenant in it",
                            reason="no tenant")  # fmt: skip
        if self._tenant is None or caller.tenant == self._tenant:
            return caller
        if caller.tenant is None:
            return replace(caller, tenant=self._tenant)
        raise Forbidden("this service answers for another tenant than the token's; ask the one of your tenant",
                        reason="other tenant")  # fmt: skip


def bearer_token(authorization: str | None) -> str:
    """The token of an Authorization header."""
    if authorization is None:
        raise Unauthorized("there is no token; send the header `Authorization: Bearer TOKEN`", reason="no token")
    if len(authorization) > len("Bearer ") + MOST_CHARACTERS:
        raise Unauthorized(
            f"the token is longer than {MOST_CHARACTERS} characters; get a smaller one", reason="too long"
        )
    found = _BEARER.fullmatch(authorization)
    if found is None:
        raise Unauthorized("the Authorization header is not `Bearer TOKEN`; send it so", reason="malformed header")
    return found[1]


def is_name(value: object) -> TypeGuard[str]:
    """Whether a subject or tenant is one: neither empty nor endless, and nothing that an index or a log cannot hold."""
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def is_loopback(host: str | None) -> bool:
    """Whether nobody beyond this machine can answer, or ask, there."""
    try:
        return host == "localhost" or ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False
