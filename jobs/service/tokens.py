"""JSON Web Tokens: signature, issuer, audience and times checked, then the caller. Knows no header and no address.

What is accepted is pinned by the settings and by the key, never by the token (RFC 8725): its `alg` must be one that the
settings name and that its key is for; `jku`, `jwk` and `x5u` are not looked at.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jwt

from jobs.service.auth import AuthSettings, Caller, Forbidden, Unauthorized, is_name
from jobs.service.jwks import KeysUnreadable, parse_keys, read_file, read_url
from jobs.service.key_set import KeySet
from pipelines.errors import SettingsError

_NEEDED = ("exp", "iss", "aud", "sub")
# The first that fits; what PyJWT says itself may hold pieces of the token.
_REFUSED: tuple[tuple[type[Exception], str, str], ...] = (
    (jwt.ExpiredSignatureError, "expired", "the token has expired; get a new one"),
    (
        jwt.ImmatureSignatureError,
        "not yet valid",
        "the token is not valid yet; compare this machine's clock with its issuer's",
    ),
    (jwt.InvalidAlgorithmError, "algorithm", "the token is signed by an algorithm that this service does not accept"),
    (jwt.InvalidIssuerError, "wrong issuer", "the token is of another issuer than this service trusts"),
    (jwt.InvalidAudienceError, "wrong audience", "the token is for another audience than this service"),
    (jwt.MissingRequiredClaimError, "missing claim", f"the token lacks a claim; {', '.join(_NEEDED)} are needed"),
    (jwt.InvalidSignatureError, "wrong signature", "the token's signature does not hold"),
    (jwt.PyJWTError, "malformed", "the token is no JSON Web Token that this service understands"),
)


class Tokens:
    def __init__(self, settings: AuthSettings, keys: KeySet) -> None:
        self._settings, self._keys = settings, keys
        self.close = keys.close

    def caller(self, token: str) -> Caller:
        """Raises Refusal: Unauthorized or Forbidden, or unavailable where the issuer's keys are too old to trust."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token, key.public, algorithms=sorted(key.algorithms), issuer=self._settings.issuer,
                audience=self._settings.audience, leeway=self._settings.leeway_s, options={"require": [*_NEEDED]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise _unauthorized(error) from None
        return self._caller(claims)

    def _caller(self, claims: dict[str, Any]) -> Caller:
        subject, tenant = claims["sub"], claims.get(self._settings.tenant_claim)
        if not is_name(subject):
            raise Unauthorized("the token's claim sub is no text of 1 to 256 printable characters", reason="subject")
        if tenant is not None and not is_name(tenant):
            raise Forbidden(f"the token's claim {self._settings.tenant_claim} is no text of 1 to 256 printable characters",
                            reason="tenant")  # fmt: skip
        return Caller(subject, tenant)


def open_tokens(settings: AuthSettings) -> Tokens:
    """Raises SettingsError where the issuer's keys cannot be read: without them nobody could be let in."""
    place = settings.jwks_url or settings.jwks_file
    assert place is not None
    read = partial(read_url, place) if settings.jwks_url else partial(read_file, Path(place))
    try:
        keys = KeySet(lambda: parse_keys(read(), settings.algorithms), place, ttl_s=settings.jwks_ttl_s,
                      stale_s=settings.jwks_stale_s)  # fmt: skip
    except KeysUnreadable as error:
        raise SettingsError(f"serve.auth: the issuer's keys at {place} cannot be read: {error}") from error
    return Tokens(settings, keys)


def _unauthorized(error: jwt.PyJWTError) -> Unauthorized:
    reason, message = next((reason, message) for kind, reason, message in _REFUSED if isinstance(error, kind))
    return Unauthorized(message, reason=reason)
