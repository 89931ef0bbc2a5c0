"""Settings of authentication, the Authorization header, and where a caller ends up."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.service.api_keys import new_key
from jobs.service.auth import (
    MOST_CHARACTERS,
    AuthSettings,
    Caller,
    Forbidden,
    Unauthorized,
    bearer_token,
    is_loopback,
    is_name,
    open_gatekeeper,
)
from jobs.service.key_file import append_key
from pipelines.errors import SettingsError
from tests.service.issuer import public_jwk, settings, token

JWT = {"method": "jwt", "issuer": "https://i/", "audience": "b", "jwks_url": "https://i/keys"}


def said(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        AuthSettings.model_validate(given)
    return str(caught.value.errors()[0]["msg"])


def test_by_default_nobody_is_asked_who_they_are() -> None:
    assert AuthSettings() == AuthSettings(method="none")


def test_whoever_names_keys_but_no_method_is_told_that_nobody_is_asked() -> None:
    assert "without serve.auth.method nobody is asked" in said(api_keys="keys.jsonl")
    assert "audience, issuer" in said(issuer="i", audience="a")
    assert AuthSettings(method="none", api_keys="keys.jsonl").method == "none"


@pytest.mark.parametrize("name", ["HS256", "hs512", "HS384", "none", "None", "NONE"])
def test_algorithms_with_a_shared_secret_or_none_are_refused(name: str) -> None:
    assert f"{name} is refused" in said(**JWT, algorithms=["RS256", name])
    assert f"{name} is refused" in said(**JWT, algorithms=(name,))


@pytest.mark.parametrize("wrong", [["RS1"], [], "RS256", ["ES256K"], 7, None])
def test_only_known_algorithms_are_taken_and_at_least_one(wrong: Any) -> None:
    assert said(**JWT, algorithms=wrong)


@pytest.mark.parametrize(
    "url", ["http://login.example.com/keys", "ftp://127.0.0.1/keys", "login.example.com", "http://127.0.0.1.example.com/keys",
            "http://localhost.example.com/keys"],
)  # fmt: skip
def test_keys_come_over_https_or_from_loopback(url: str) -> None:
    assert "over https" in said(**{**JWT, "jwks_url": url})


@pytest.mark.parametrize("url", ["https:///keys", "https://user@login.example.com/", "https://u:p@login.example.com/"])
def test_the_address_of_keys_names_a_host_and_holds_no_credentials(url: str) -> None:
    assert "without credentials" in said(**{**JWT, "jwks_url": url})


@pytest.mark.parametrize(
    "url", ["https://login.example.com/keys", "http://127.0.0.1:8/keys", "http://localhost/", "http://[::1]/"]
)
def test_addresses_of_keys_that_do(url: str) -> None:
    assert AuthSettings.model_validate({**JWT, "jwks_url": url}).jwks_url == url


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"method": "api_keys"}, "method api_keys needs serve.auth.api_keys"),
     ({"method": "jwt", "jwks_file": "k"}, "needs serve.auth.issuer and serve.auth.audience"),
     ({**JWT, "audience": None}, "method jwt needs serve.auth.audience"),
     ({**JWT, "jwks_url": None}, "needs one of serve.auth.jwks_url and serve.auth.jwks_file"),
     ({**JWT, "jwks_file": "keys.json"}, "needs one of serve.auth.jwks_url and serve.auth.jwks_file")],
)  # fmt: skip
def test_a_method_names_what_it_lacks(given: dict[str, Any], missing: str) -> None:
    assert missing in said(**given)


@pytest.mark.parametrize(
    "beyond",
    [{"jwks_ttl_s": 0.5}, {"jwks_ttl_s": 86_400.5}, {"jwks_stale_s": -0.5}, {"jwks_stale_s": 604_801}, {"leeway_s": -1},
     {"leeway_s": 301}, {"issuer": ""}, {"audience": ""}, {"tenant_claim": ""}, {"unknown": 1}],
)  # fmt: skip
def test_settings_have_bounds(beyond: dict[str, Any]) -> None:
    assert said(**{**JWT, **beyond})


def test_the_bounds_themselves_are_within() -> None:
    for least in ({"jwks_ttl_s": 1, "jwks_stale_s": 0, "leeway_s": 0, "tenant_claim": "t", "issuer": "i", "audience": "a"},
                  {"jwks_ttl_s": 86_400, "jwks_stale_s": 604_800, "leeway_s": 300}):  # fmt: skip
        assert AuthSettings.model_validate({**JWT, **least}).method == "jwt"


def test_a_caller_stays_who_it_is() -> None:
    caller = Caller("crawler", "acme")
    with pytest.raises(FrozenInstanceError):
        caller.tenant = "blue"  # type: ignore[misc]
    assert not hasattr(caller, "__dict__")


def test_defaults_are_the_careful_ones() -> None:
    found = AuthSettings.model_validate(JWT)
    assert (found.algorithms, found.leeway_s, found.tenant_claim, found.tenantless) == (
        ("RS256",),
        30.0,
        "tenant",
        False,
    )
    assert (found.jwks_ttl_s, found.jwks_stale_s) == (300.0, 3600.0)
    with pytest.raises(ValidationError):
        found.tenantless = True  # type: ignore[misc]


@pytest.mark.parametrize(("host", "is_it"), [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True),
                                             ("10.0.0.1", False), ("example.com", False), ("", False), (None, False)])  # fmt: skip
def test_loopback_is_this_machine(host: str | None, is_it: bool) -> None:
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    "header", ["Bearer abc.d-e_f~g+h/9==", "bearer   abc.d-e_f~g+h/9==", "BEARER abc.d-e_f~g+h/9=="]
)
def test_a_bearer_token_is_taken_out_of_its_header(header: str) -> None:
    assert bearer_token(header) == "abc.d-e_f~g+h/9=="


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "abc", "Basic dTpw", "Bearer a b", "Bearer a,b", "Bearer =a", " Bearer a", "Bearer a ", "Bearera",
     "Bearer a\n", "Bearer a\r\nX-Tenant: b", "Bearer ä", "Bearer a, Bearer b", "Bearer a=b", "Token a"],
)  # fmt: skip
def test_any_other_header_is_refused_without_repeating_it(header: str) -> None:
    with pytest.raises(Unauthorized, match="not `Bearer TOKEN`") as caught:
        bearer_token(header)
    assert (caught.value.status, caught.value.reason) == (401, "malformed header")
    assert caught.value.headers()["www-authenticate"] == "Bearer"


def test_a_missing_token_says_how_to_send_one() -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer TOKEN") as caught:
        bearer_token(None)
    assert caught.value.reason == "no token"


def test_a_token_has_a_greatest_length() -> None:
    longest = "a" * MOST_CHARACTERS
    assert MOST_CHARACTERS == 8192
    assert bearer_token(f"Bearer {longest}") == longest
    with pytest.raises(Unauthorized, match="longer than 8192 characters; get a smaller one") as caught:
        bearer_token(f"Bearer {longest}a")
    assert caught.value.reason == "too long"


@pytest.mark.parametrize(
    ("value", "is_it"),
    [("a", True), ("ä name with spaces", True), ("x" * 256, True), ("x" * 257, False), ("", False), (None, False), (7, False),
     (["a"], False), ("a\nb", False), ("a\x00", False), ("\ud800", False), ("a\u2028b", False), (True, False)],
)  # fmt: skip
def test_names_are_printable_and_bounded(value: object, is_it: bool) -> None:
    assert is_name(value) is is_it


@pytest.mark.parametrize("header", [None, "Bearer anything", "rubbish"])
@pytest.mark.parametrize("tenant", [None, "acme"])
def test_without_authentication_everybody_is_the_same_caller(header: str | None, tenant: str | None) -> None:
    gatekeeper = open_gatekeeper(AuthSettings(), tenant)
    assert gatekeeper.admit(header) == Caller("anonymous", tenant)
    gatekeeper.close()


def with_key(folder: Path, tenant: str | None, only: str | None, *, tenantless: bool = False) -> Caller:
    """Whom a key of ``tenant`` becomes at a service for ``only``."""
    secret, kept = new_key(tenant=tenant, subject="crawler")
    append_key(folder / "keys.jsonl", kept)
    known = AuthSettings(method="api_keys", api_keys=str(folder / "keys.jsonl"), tenantless=tenantless)
    gatekeeper = open_gatekeeper(known, only)
    try:
        return gatekeeper.admit(f"Bearer {secret}")
    finally:
        gatekeeper.close()


def test_the_tenant_is_that_of_the_token(tmp_path: Path) -> None:
    assert with_key(tmp_path, "acme", None) == Caller("crawler", "acme")
    assert with_key(tmp_path, "acme", "acme") == Caller("crawler", "acme")


def test_a_service_of_one_tenant_refuses_tokens_of_others(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="another tenant") as caught:
        with_key(tmp_path, "acme", "blue")
    assert (caught.value.status, caught.value.code, caught.value.reason) == (403, "forbidden", "other tenant")
    with pytest.raises(Forbidden, match="another tenant"):
        with_key(tmp_path, "acme", "blue", tenantless=True)


def test_a_token_without_a_tenant_is_refused_unless_the_settings_let_it_in(tmp_path: Path) -> None:
    for only in (None, "acme"):
        with pytest.raises(Forbidden, match="names no tenant") as caught:
            with_key(tmp_path, None, only)
        assert caught.value.reason == "no tenant"
    assert with_key(tmp_path, None, None, tenantless=True) == Caller("crawler", None)


def test_a_token_without_a_tenant_sees_no_more_than_the_service_is_for(tmp_path: Path) -> None:
    assert with_key(tmp_path, None, "acme", tenantless=True) == Caller("crawler", "acme")


def test_each_method_takes_its_own_tokens_alone(tmp_path: Path) -> None:
    secret, kept = new_key(tenant="acme", subject="crawler")
    append_key(tmp_path / "keys.jsonl", kept)
    by_key = open_gatekeeper(AuthSettings(method="api_keys", api_keys=str(tmp_path / "keys.jsonl")), None)
    by_jwt = open_gatekeeper(settings(tmp_path), None)
    try:
        assert by_jwt.admit(f"Bearer {token()}") == Caller("crawler", "acme")
        assert by_key.admit(f"Bearer {secret}") == Caller("crawler", "acme")
        for gatekeeper, wrong in ((by_key, token()), (by_jwt, secret)):
            with pytest.raises(Unauthorized):
                gatekeeper.admit(f"Bearer {wrong}")
            with pytest.raises(Unauthorized, match="there is no token"):
                gatekeeper.admit(None)
    finally:
        by_jwt.close()
        by_key.close()


def test_closing_ends_the_thread_that_keeps_keys_fresh(tmp_path: Path) -> None:
    import threading

    before = {thread.ident for thread in threading.enumerate()}
    gatekeeper = open_gatekeeper(settings(tmp_path), None)
    (made,) = [thread for thread in threading.enumerate() if thread.ident not in before]
    assert made.is_alive()
    gatekeeper.close()
    assert not made.is_alive()


def test_what_a_service_needs_is_looked_for_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.jsonl cannot be read: .*`backhaul key CONF`"):
        open_gatekeeper(AuthSettings(method="api_keys", api_keys=str(tmp_path / "nowhere.jsonl")), None)
    whole = settings(tmp_path, public_jwk("rsa", kid="a"))
    (tmp_path / "jwks.json").unlink()
    with pytest.raises(
        SettingsError, match=r"serve.auth: the issuer's keys at .*jwks.json cannot be read: No such file"
    ):
        open_gatekeeper(whole, None)
