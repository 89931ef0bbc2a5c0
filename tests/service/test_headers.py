"""The headers of every answer."""

from __future__ import annotations

import pytest

from jobs.service.headers import security_headers


def headers(path: str, *, tls: bool = False) -> dict[str, str]:
    pairs = security_headers(path, tls=tls)
    found = {name.decode("ascii"): value.decode("ascii") for name, value in pairs}
    assert len(found) == len(pairs)
    assert all(name == name.lower() for name in found)
    return found


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/v1/search", "/healthz", "/v1"])
def test_a_browser_may_load_and_ask_this_server_alone(path: str) -> None:
    found = headers(path)
    policy = dict(each.split(" ", 1) for each in found["content-security-policy"].split("; "))
    assert policy == {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
                      "connect-src": "'self'", "base-uri": "'none'", "form-action": "'self'", "frame-ancestors": "'none'"}  # fmt: skip
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-opener-policy"] == found["cross-origin-resource-policy"] == "same-origin"
    assert found["cross-origin-embedder-policy"] == "require-corp"


def test_answers_are_kept_by_no_cache_and_files_only_after_asking() -> None:
    assert {path: headers(path)["cache-control"] for path in ("/v1/search", "/v1/documents", "/", "/page/page.js", "/v1x")} == {
        "/v1/search": "no-store", "/v1/documents": "no-store", "/": "no-cache", "/page/page.js": "no-cache", "/v1x": "no-cache",
    }  # fmt: skip


def test_only_who_came_over_tls_is_told_to_stay_there() -> None:
    assert headers("/", tls=True)["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in headers("/")


def test_nothing_says_which_server_answers() -> None:
    assert not {"server", "x-powered-by", "via"} & {*headers("/v1/search", tls=True)}
