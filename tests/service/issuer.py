"""An identity provider, as far as tokens go: keys of every kind, the set that it publishes, tokens well and badly made."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from jobs.service.auth import AuthSettings

ISSUER, AUDIENCE = "https://login.example.com/", "backhaul"
KINDS = {"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256",
         "ES384": "p384", "ES512": "p521", "EdDSA": "ed25519"}  # fmt: skip
_MAKE = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048), "short": lambda: rsa.generate_private_key(65537, 1024),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()), "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()), "ed25519": ed25519.Ed25519PrivateKey.generate,
}  # fmt: skip
_SPELL: dict[str, Any] = {"rsa": RSAAlgorithm, "short": RSAAlgorithm, "ed25519": OKPAlgorithm}


def private_key(kind: str, number: int = 0) -> Any:
    """The same for the same arguments."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    return _MAKE[kind]()


def public_jwk(kind: str, number: int = 0, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = _SPELL.get(kind, ECAlgorithm).to_jwk(private_key(kind, number).public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, **more}


def key_set(*jwks: dict[str, Any]) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def claims(**changed: Any) -> dict[str, Any]:
    """Of a token that is let in; a claim that is ... is left out."""
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "crawler",
        "exp": now + 300,
        "iat": now - 5,
        "tenant": "acme",
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def token(algorithm: str = "RS256", number: int = 0, *, headers: dict[str, Any] | None = None, **changed: Any) -> str:
    """Signed by the private key of this kind and number. It names the key ``a`` unless ``headers`` say otherwise."""
    body = json.dumps(claims(**changed)).encode()  # jwt.encode would refuse some of what is asked for here
    return jwt.PyJWS().encode(
        body, private_key(KINDS[algorithm], number), algorithm, {"kid": "a"} if headers is None else headers
    )


def part(value: Any) -> str:
    """A part of a token, of JSON or of bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def settings(folder: Path, *jwks: dict[str, Any], **changed: Any) -> AuthSettings:
    """Of a service that trusts these keys; by default the RSA key ``a``."""
    file = folder / "jwks.json"
    file.write_bytes(key_set(*(jwks or (public_jwk("rsa", kid="a"),))))
    whole = {"method": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(file), **changed}
    return AuthSettings.model_validate(whole)
