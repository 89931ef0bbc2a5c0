"""JSON Web Tokens: what is let in, and each way of being refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from jobs.service.auth import Caller, Forbidden, Unauthorized
from jobs.service.tokens import Tokens, open_tokens
from pipelines.errors import SettingsError
from tests.fixtures.http_stand_in import Reply, serving
from tests.service.issuer import KINDS, claims, key_set, part, private_key, public_jwk, settings, token

DEEP = b'{"a":' * 1500


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """Of an issuer with one RSA key, ``a``; RS256 and PS256 are accepted."""
    found = open_tokens(settings(tmp_path_factory.mktemp("tokens"), algorithms=["RS256", "PS256"]))
    yield found
    found.close()


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator[Callable[..., Tokens]]:
    """Opens tokens of an issuer with these keys."""
    opened: list[Tokens] = []

    def open_(*jwks: dict[str, Any], **changed: Any) -> Tokens:
        opened.append(open_tokens(settings(tmp_path, *jwks, **changed)))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


SAID = {
    "expired": "the token has expired; get a new one",
    "not yet valid": "the token is not valid yet; compare this machine's clock with its issuer's",
    "algorithm": "the token is signed by an algorithm that this service does not accept",
    "wrong issuer": "the token is of another issuer than this service trusts",
    "wrong audience": "the token is for another audience than this service",
    "missing claim": "the token lacks a claim; exp, iss, aud, sub are needed",
    "wrong signature": "the token's signature does not hold",
    "malformed": "the token is no JSON Web Token that this service understands",
    "subject": "the token's claim sub is no text of 1 to 256 printable characters",
    "no kid": "the token does not say which key it is signed with (kid), and its issuer has several",
    "unknown key": "the token is signed with a key that its issuer has not published; if the key is new, ask again in a moment",
}


def reason(tokens: Tokens, text: str) -> str:
    """Why a token is refused; whatever it is, nothing of it is repeated."""
    with pytest.raises(Unauthorized) as caught:
        tokens.caller(text)
    assert str(caught.value) == SAID[caught.value.reason]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.reason


@pytest.mark.parametrize("algorithm", KINDS)
def test_every_asymmetric_algorithm_is_checked_with_a_real_key(trusting: Callable[..., Tokens], algorithm: str) -> None:
    known = trusting(public_jwk(KINDS[algorithm], kid="a"), algorithms=[algorithm])
    assert known.caller(token(algorithm)) == Caller("crawler", "acme")
    assert reason(known, token(algorithm, number=1)) == "wrong signature"


def test_keys_may_come_from_an_address(tmp_path: Path) -> None:
    with serving(lambda request: Reply(body=key_set(public_jwk("rsa", kid="a")))) as url:
        known = open_tokens(settings(tmp_path, jwks_file=None, jwks_url=f"{url}/keys"))
        assert known.caller(token()) == Caller("crawler", "acme")
        known.close()
    with pytest.raises(
        SettingsError, match=r"serve.auth: the issuer's keys at http://127.0.0.1:\d+/keys cannot be read: NewConn"
    ):
        open_tokens(settings(tmp_path, jwks_file=None, jwks_url=f"{url}/keys"))


def test_the_only_key_needs_no_name(trusting: Callable[..., Tokens]) -> None:
    for jwk in (public_jwk("rsa", kid="a"), public_jwk("rsa")):
        assert trusting(jwk).caller(token(headers={})) == Caller("crawler", "acme")


def test_of_several_keys_the_token_names_its_own(trusting: Callable[..., Tokens]) -> None:
    both = trusting(public_jwk("rsa", kid="a"), public_jwk("rsa", 1, kid="b"))
    assert both.caller(token(headers={"kid": "a"})).subject == "crawler"
    assert both.caller(token(number=1, headers={"kid": "b"})).subject == "crawler"
    assert reason(both, token(headers={"kid": "b"})) == "wrong signature"
    assert reason(both, token(headers={})) == "no kid"
    assert reason(both, token(headers={"kid": "c"})) == "unknown key"


def test_an_algorithm_that_is_not_accepted_is_refused_although_the_key_fits(trusting: Callable[..., Tokens]) -> None:
    known = trusting(algorithms=["RS256"])
    assert reason(known, token("PS256")) == "algorithm"
    assert reason(known, token("RS512")) == "algorithm"


def test_a_key_is_for_the_algorithm_that_it_names(trusting: Callable[..., Tokens]) -> None:
    known = trusting(public_jwk("rsa", kid="a", alg="PS256"), algorithms=["RS256", "PS256"])
    assert known.caller(token("PS256")).subject == "crawler"
    assert reason(known, token("RS256")) == "algorithm"


def test_each_key_of_a_mixed_set_takes_its_own_kind(trusting: Callable[..., Tokens]) -> None:
    mixed = trusting(public_jwk("rsa", kid="a"), public_jwk("p256", kid="e"), public_jwk("ed25519", kid="o"),
                     algorithms=["RS256", "ES256", "EdDSA"])  # fmt: skip
    for algorithm, kid in (("RS256", "a"), ("ES256", "e"), ("EdDSA", "o")):
        assert mixed.caller(token(algorithm, headers={"kid": kid})).subject == "crawler"
        for other in {"a", "e", "o"} - {kid}:
            assert reason(mixed, token(algorithm, headers={"kid": other})) == "algorithm"


@pytest.mark.parametrize(
    "form", [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
)
@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "hs256"])
def test_a_public_key_is_no_shared_secret(tokens: Tokens, form: tuple[Encoding, PublicFormat], algorithm: str) -> None:
    """The confusion of algorithms: an HMAC with the public key, which everybody has."""
    secret = private_key("rsa").public_key().public_bytes(*form)
    head = part({"alg": algorithm, "typ": "JWT", "kid": "a"}) + "." + part(claims())
    signature = hmac.new(secret, head.encode(), hashlib.sha512 if "512" in algorithm else hashlib.sha256).digest()
    assert reason(tokens, f"{head}.{part(signature)}") == "algorithm"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, [], {}, 7, ["RS256"], "RS256 ", "rs256"])
@pytest.mark.parametrize("signature", ["", "c2ln"])
def test_an_unsigned_token_is_refused(tokens: Tokens, algorithm: Any, signature: str) -> None:
    assert reason(tokens, f"{part({'alg': algorithm, 'kid': 'a'})}.{part(claims())}.{signature}") == "algorithm"


def test_a_token_without_algorithm_is_refused(tokens: Tokens) -> None:
    assert reason(tokens, f"{part({'kid': 'a'})}.{part(claims())}.c2ln") == "algorithm"


def test_a_signature_is_of_its_own_claims_alone(tokens: Tokens) -> None:
    """Header, claims and signature of three good tokens, mixed."""
    parts = [token(tenant=tenant).split(".") for tenant in ("acme", "blue", "cobalt")]
    for first, second, third in ((0, 0, 1), (0, 1, 0), (0, 1, 2), (1, 2, 1)):
        assert reason(tokens, ".".join((parts[first][0], parts[second][1], parts[third][2]))) == "wrong signature"
    head, body, signature = parts[0]
    assert reason(tokens, f"{head}.{part(claims(tenant='blue'))}.{signature}") == "wrong signature"
    assert reason(tokens, f"{part({'alg': 'PS256', 'kid': 'a'})}.{body}.{signature}") == "wrong signature"
    assert reason(tokens, f"{head}.{body}.{signature[:336]}") == "wrong signature"


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"iss": "https://login.example.com"}, "wrong issuer"), ({"iss": ["https://login.example.com/"]}, "wrong issuer"),
     ({"iss": ...}, "missing claim"), ({"iss": ""}, "wrong issuer"),
     ({"aud": "other"}, "wrong audience"), ({"aud": ["other", "backhaul2"]}, "wrong audience"), ({"aud": ...}, "missing claim"),
     ({"aud": []}, "missing claim"), ({"aud": {"backhaul": 1}}, "wrong audience"), ({"aud": "backhaul/"}, "wrong audience"),
     ({"exp": ...}, "missing claim"), ({"exp": None}, "missing claim"), ({"exp": "soon"}, "malformed"), ({"exp": []}, "malformed"),
     ({"sub": ...}, "missing claim"), ({"sub": 7}, "malformed"), ({"sub": ""}, "subject"), ({"sub": "a\nb"}, "subject"),
     ({"sub": "x" * 257}, "subject"), ({"nbf": "x"}, "malformed"), ({"iat": "x"}, "malformed"), ({"iat": None}, "malformed")],
)  # fmt: skip
def test_claims_that_do_not_hold(tokens: Tokens, changed: dict[str, Any], why: str) -> None:
    assert reason(tokens, token(**changed)) == why


def test_one_audience_of_several_is_enough(tokens: Tokens) -> None:
    assert tokens.caller(token(aud=["other", "backhaul"])).tenant == "acme"


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"exp": -100}, "expired"), ({"exp": -31}, "expired"), ({"exp": -20}, None), ({"nbf": 100}, "not yet valid"), ({"nbf": 20}, None),
     ({"nbf": -5}, None), ({"iat": 100}, "not yet valid"), ({"iat": 20}, None), ({"iat": ...}, None)],
)  # fmt: skip
def test_times_hold_within_the_leeway(tokens: Tokens, changed: dict[str, Any], why: str | None) -> None:
    """Of 30 s; seconds are from now."""
    now = int(time.time())
    made = token(**{name: value if value is ... else now + value for name, value in changed.items()})
    if why is None:
        assert tokens.caller(made).subject == "crawler"
    else:
        assert reason(tokens, made) == why


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e400", "9" * 400, "1" + "0" * 5000])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_times_that_are_no_times_are_refused_or_far_away(tokens: Tokens, claim: str, number: str) -> None:
    body = json.dumps(claims(**{claim: "?"})).replace('"?"', number).encode()
    signed = jwt.PyJWS().encode(body, private_key("rsa"), "RS256", headers={"kid": "a"})
    with suppress(Unauthorized):
        tokens.caller(signed)


def test_the_tenant_comes_from_the_claim_that_the_settings_name(trusting: Callable[..., Tokens]) -> None:
    known = trusting(tenant_claim="https://example.com/team")
    assert known.caller(token(**{"https://example.com/team": "blue"})) == Caller("crawler", "blue")
    assert known.caller(token()) == Caller("crawler", None)


@pytest.mark.parametrize(
    "tenant", ["", "x" * 257, "a\x00b", "a\n", 7, True, ["acme"], {"id": "acme"}, 0, False, "\ud800"]
)
def test_a_tenant_that_is_no_name_opens_nothing(tokens: Tokens, tenant: Any) -> None:
    with pytest.raises(Forbidden, match="claim tenant is no text") as caught:
        tokens.caller(token(tenant=tenant))
    assert (caught.value.status, caught.value.reason) == (403, "tenant")


@pytest.mark.parametrize("tenant", ["a", "x" * 256, "Acme & Söhne", "' OR 1=1 --"])
def test_any_printable_tenant_is_taken_as_it_is(tokens: Tokens, tenant: str) -> None:
    assert tokens.caller(token(tenant=tenant)).tenant == tenant


def test_null_and_missing_tenants_are_none(tokens: Tokens) -> None:
    assert tokens.caller(token(tenant=None)).tenant is None
    assert tokens.caller(token(tenant=...)).tenant is None


@pytest.mark.parametrize("kid", [7, None, ["a"], {"a": 1}, True])
def test_a_kid_that_is_no_text_is_refused(tokens: Tokens, kid: Any) -> None:
    assert reason(tokens, f"{part({'alg': 'RS256', 'kid': kid})}.{part(claims())}.c2ln") == "malformed"


@pytest.mark.parametrize(
    "headers",
    [{"jwk": public_jwk("rsa", 1)}, {"jku": "https://evil.example.com/keys"}, {"x5u": "https://evil.example.com/"}],
)
def test_keys_that_a_token_brings_or_names_are_not_looked_at(tokens: Tokens, headers: dict[str, Any]) -> None:
    assert reason(tokens, token(number=1, headers={"kid": "a", **headers})) == "wrong signature"


@pytest.mark.parametrize(
    "headers", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"crit": "b64"}]
)
def test_extensions_that_must_be_understood_are_refused(tokens: Tokens, headers: dict[str, Any]) -> None:
    head = part({"alg": "RS256", "kid": "a", **headers})
    assert reason(tokens, f"{head}.{part(claims())}.c2ln") == "malformed"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b.c", "bh_abc", part({"alg": "RS256"}), f"{part([])}.{part({})}.c2ln", f"{part(b'{')}.e30.c2ln",
     f"{part(b'[' * 6000)}.e30.c2ln", f"{part(DEEP)}.e30.c2ln", "e30.e30.e30.e30", "=.=.=", f"{part('x')}.e30.c2ln"],
)  # fmt: skip
def test_what_is_no_token_is_refused(tokens: Tokens, text: str) -> None:
    assert reason(tokens, text) in ("malformed", "algorithm")


def test_claims_that_are_no_object_are_refused(tokens: Tokens) -> None:
    for body in (b"[]", b"7", b'"text"', b"{", b"[" * 5000):
        signed = jwt.PyJWS().encode(body, private_key("rsa"), "RS256", headers={"kid": "a"})
        assert reason(tokens, signed) == "malformed"


_json = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)  # fmt: skip
_names = st.sampled_from(
    ["alg", "kid", "crit", "b64", "typ", "exp", "iat", "nbf", "iss", "aud", "sub", "jti", "tenant"]
)


@effort(max_examples=60, deadline=None)
@given(st.dictionaries(_names, _json, max_size=5), st.binary(max_size=80))
def test_no_header_and_no_body_of_a_stranger_is_more_than_refused(
    tokens: Tokens, header: dict[str, Any], body: bytes
) -> None:
    for head in (header, {"alg": "RS256", "kid": "a", **header}):
        with pytest.raises(Unauthorized):
            tokens.caller(f"{part(head)}.{part(body)}.c2ln")


@effort(max_examples=60, deadline=None)
@given(st.dictionaries(_names, _json, max_size=4))
def test_no_claims_of_the_issuer_are_more_than_refused(tokens: Tokens, changed: dict[str, Any]) -> None:
    body = json.dumps({**claims(), **changed}).encode()
    try:
        found = tokens.caller(jwt.PyJWS().encode(body, private_key("rsa"), "RS256", headers={"kid": "a"}))
    except (Unauthorized, Forbidden):
        return
    assert found.subject
    assert found.tenant != ""
