"""Public keys of an issuer as a JSON Web Key Set (RFC 7517): read from an address or a file, in bounds. Keeps nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import urllib3

_MOST_BYTES = 256 << 10
_MOST_KEYS = 100
_SILENCE_S = 2.0
_DEADLINE_S = 5.0
_BLOCK = 16_384
_LEAST_RSA_BITS = 2048  # RFC 7518, section 3.3
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# By (kty, crv); a list, because a stranger's may be of any type.
_FITTING = [(("RSA", None), _RSA), (("EC", "P-256"), ("ES256",)), (("EC", "P-384"), ("ES384",)),
            (("EC", "P-521"), ("ES512",)), (("OKP", "Ed25519"), ("EdDSA",))]  # fmt: skip

Jwk = Mapping[str, Any]  # Any: JSON
log = logging.getLogger(__name__)


class KeysUnreadable(Exception):
    """The message says why; it holds nothing of a key."""


class _Unusable(Exception):
    pass


class PublicKey(NamedTuple):
    """``algorithms`` are those that it may check, of those that are accepted."""

    public: Any  # of cryptography, of a class for each kind
    algorithms: frozenset[str]


Keys = Mapping[str | None, PublicKey]


def read_url(url: str, *, silence_s: float = _SILENCE_S, deadline_s: float = _DEADLINE_S) -> bytes:
    """The body of a 200, of bounded size and time. Redirects are not followed: they could leave https.

    Raises:
        KeysUnreadable: naming what was met.
    """
    until = time.monotonic() + deadline_s
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "backhaul"}
    try:
        with (
            urllib3.PoolManager(retries=False, timeout=silence_s, headers=headers) as pool,
            closing(pool.request("GET", url, redirect=False, preload_content=False, decode_content=False)) as answer,
        ):
            if answer.status != 200:
                raise KeysUnreadable(f"the answer is {answer.status}, not 200")
            found = bytearray()
            while block := answer.read1(_BLOCK):  # never waits for a full block, so that the deadline is seen
                found += block
                if len(found) > _MOST_BYTES:
                    raise KeysUnreadable(f"the answer is longer than {_MOST_BYTES} bytes")
                if time.monotonic() > until:
                    raise KeysUnreadable(f"the answer took longer than {deadline_s} s")
            return bytes(found)
    except urllib3.exceptions.HTTPError as error:
        raise KeysUnreadable(f"{type(error).__name__}: {error}") from error


def read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            found = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeysUnreadable(f"{error.strerror}") from error
    if len(found) > _MOST_BYTES:
        raise KeysUnreadable(f"the file is longer than {_MOST_BYTES} bytes")
    return found


def parse_keys(data: bytes, accepted: Collection[str]) -> Keys:
    """By `kid`; None for that of an only key without one. A key that cannot be used is left out with a warning.

    Raises:
        KeysUnreadable: this is no set of keys, or there is none in it that can be used.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise KeysUnreadable("it is not JSON") from None
    listed = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_KEYS:
        raise KeysUnreadable(f"it is no JSON object with a list `keys` of 1 to {_MOST_KEYS} keys (RFC 7517)")
    found: dict[str | None, PublicKey] = {}
    for number, jwk in enumerate(listed):
        try:
            kid, key = _key(jwk, accepted)
            if kid is None and len(listed) > 1:
                raise _Unusable("it has no kid, and is not the only key")
            if kid in found:
                raise KeysUnreadable(f"its key {number} has the kid of another one")
        except _Unusable as error:
            log.warning("key %d of the issuer's keys is left out: %s", number, error)
        else:
            found[kid] = key
    if not found:
        raise KeysUnreadable(f"none of its keys can be used with {', '.join(accepted)}")
    return found


def _key(jwk: Any, accepted: Collection[str]) -> tuple[str | None, PublicKey]:  # Any: JSON
    if not isinstance(jwk, dict):
        raise _Unusable("it is no JSON object")
    if jwk.get("use", "sig") != "sig":
        raise _Unusable("it is not for signatures")
    if "d" in jwk or "k" in jwk:
        raise _Unusable("it is a secret, which nobody should publish; make a new one")
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise _Unusable("its kid is no text")
    algorithms = _algorithms(jwk, accepted)
    try:
        public = jwt.PyJWK({**jwk}).key
    except jwt.PyJWTError:
        raise _Unusable("its parameters make no key") from None
    if jwk["kty"] == "RSA" and public.key_size < _LEAST_RSA_BITS:
        raise _Unusable(f"an RSA key of {public.key_size} bits is too short; {_LEAST_RSA_BITS} are needed")
    return kid, PublicKey(public, algorithms)


def _algorithms(jwk: Jwk, accepted: Collection[str]) -> frozenset[str]:
    """Those that the key's kind has, less those that it is not for (`alg`), less those that are not accepted."""
    kind, only = (jwk.get("kty"), jwk.get("crv")), jwk.get("alg")
    fitting = next((names for known, names in _FITTING if known == kind), ())
    found = frozenset(name for name in fitting if name in accepted and only in (None, name))
    if not found:
        raise _Unusable("its kind or its alg is none that is accepted")
    return found
