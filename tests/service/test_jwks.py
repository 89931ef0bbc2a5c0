"""Reading an issuer's keys: from a real server that is well, slow, away or lying, from files, and what is in them."""

from __future__ import annotations

import gzip
import inspect
import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.service.jwks import KeysUnreadable, parse_keys, read_file, read_url
from tests.fixtures.certificates import Authority
from tests.fixtures.http_stand_in import Reply, Request, serving
from tests.service.issuer import key_set, public_jwk

MOST = 256 << 10
ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


def unreadable(url: str, **limits: float) -> str:
    with pytest.raises(KeysUnreadable) as caught:
        read_url(url, **limits)
    return str(caught.value)


@contextmanager
def raw(answer: bytes, pieces: int = 1, pause_s: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes to whoever comes, in so many pieces, and then waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            server.settimeout(0.02)
            while not done.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client:
                    client.recv(65536)
                    size = max(1, len(answer) // pieces)
                    for start in range(0, len(answer), size):
                        try:
                            client.sendall(answer[start : start + size])
                        except OSError:
                            break
                        if done.wait(pause_s):
                            break
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/keys"
        finally:
            done.set()
            thread.join()


def test_the_body_of_a_good_answer_is_read_whole() -> None:
    asked: list[Request] = []

    def serve(request: Request) -> Reply:
        asked.append(request)
        return Reply(body=b"x" * MOST)

    with serving(serve) as url:
        assert read_url(f"{url}/keys?tenant=1") == b"x" * MOST
    assert (asked[0].method, asked[0].path) == ("GET", "/keys?tenant=1")
    sent = asked[0].headers
    assert (sent["accept"], sent["accept-encoding"], sent["user-agent"]) == ("application/json", "identity", "backhaul")
    assert "authorization" not in asked[0].headers


def test_a_longer_answer_is_refused_before_it_is_whole() -> None:
    with serving(lambda request: Reply(body=b"x" * (MOST + 1))) as url:
        assert unreadable(url) == "the answer is longer than 262144 bytes"
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with raw(endless + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20) as url:
        assert "longer than 262144 bytes" in unreadable(url)


def test_what_is_packed_is_not_unpacked() -> None:
    """A small answer could become a big one."""
    packed = gzip.compress(b"{}")
    with serving(lambda request: Reply(body=packed, headers={"Content-Encoding": "gzip"})) as url:
        assert read_url(url) == packed


def test_a_server_has_two_seconds_for_a_word_and_five_for_all() -> None:
    limits = inspect.signature(read_url).parameters
    assert (limits["silence_s"].default, limits["deadline_s"].default) == (2.0, 5.0)


def test_chunks_are_put_together() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") as url:
        assert read_url(url) == b"abcde"


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500, 503])
def test_any_other_answer_is_refused_and_no_redirect_followed(status: int) -> None:
    asked: list[str] = []

    def serve(request: Request) -> Reply:
        asked.append(request.path)
        return Reply(status, b"" if status == 204 else b"{}", {"Location": "/elsewhere"})

    with serving(serve) as url:
        assert unreadable(f"{url}/keys") == f"the answer is {status}, not 200"
    assert asked == ["/keys"]


def test_a_server_that_is_away_is_named_as_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "NewConnectionError: " in unreadable(f"http://127.0.0.1:{port}/")


def test_a_server_that_says_nothing_is_given_up() -> None:
    with raw(b"") as url:
        assert "ReadTimeoutError" in unreadable(url, silence_s=0.1)


def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5_000, pieces=500, pause_s=0.005) as url:
        assert unreadable(url, silence_s=5, deadline_s=0.3) == "the answer took longer than 0.3 s"


def test_an_answer_that_breaks_off_is_refused() -> None:
    with serving(lambda request: Reply(body=b"x" * 1000, then="truncate")) as url:
        assert "IncompleteRead" in unreadable(url)
    with serving(lambda request: Reply(body=b"x", then="reset")) as url:
        assert "ProtocolError" in unreadable(url)


def test_what_is_no_http_is_refused() -> None:
    with raw(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        assert "ProtocolError" in unreadable(url, silence_s=0.5)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Authority(tmp_path).certify(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client, pytest.raises(ssl.SSLError):
                context.wrap_socket(client, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        assert "certificate verify failed" in unreadable(f"https://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


def test_a_file_is_read_in_the_same_bounds(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"x" * MOST)
    assert read_file(path) == b"x" * MOST
    path.write_bytes(b"x" * (MOST + 1))
    with pytest.raises(KeysUnreadable, match="longer than 262144 bytes"):
        read_file(path)
    with pytest.raises(KeysUnreadable, match="No such file"):
        read_file(tmp_path / "nowhere.json")
    with pytest.raises(KeysUnreadable, match="Is a directory"):
        read_file(tmp_path)


def refused(data: bytes, accepted: tuple[str, ...] = ALL) -> str:
    with pytest.raises(KeysUnreadable) as caught:
        parse_keys(data, accepted)
    return str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refused(data) == "it is not JSON"


@pytest.mark.parametrize(
    "value", [[], 7, "keys", {}, {"keys": {}}, {"keys": []}, {"keys": None}, {"error": "x"}, {"keys": [{}] * 101}]
)
def test_json_that_is_no_key_set_is_refused(value: Any) -> None:
    assert "list `keys` of 1 to 100 keys" in refused(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [("rsa", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}), ("p256", {"ES256"}), ("p384", {"ES384"}),
     ("p521", {"ES512"}), ("ed25519", {"EdDSA"})],
)  # fmt: skip
def test_a_key_checks_the_algorithms_of_its_kind(kind: str, algorithms: set[str]) -> None:
    found = parse_keys(key_set(public_jwk(kind, kid="k")), ALL)
    assert [*found] == ["k"]
    assert found["k"].algorithms == algorithms
    assert parse_keys(key_set(public_jwk(kind)), ALL)[None].algorithms == algorithms
    one = min(algorithms)
    assert parse_keys(key_set(public_jwk(kind, kid="k", alg=one)), ALL)["k"].algorithms == {one}
    assert parse_keys(key_set(public_jwk(kind, kid="k")), (one,))["k"].algorithms == {one}


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"use": "enc"}, "not for signatures"), ({"use": None}, "not for signatures"), ({"d": "AQAB"}, "it is a secret"),
     ({"k": "AQAB"}, "it is a secret"), ({"kid": 7}, "its kid is no text"), ({"kid": ["a"]}, "its kid is no text"),
     ({"kty": "oct"}, "none that is accepted"), ({"kty": []}, "none that is accepted"), ({"kty": None}, "none that is accepted"),
     ({"crv": "P-256"}, "none that is accepted"), ({"crv": {}}, "none that is accepted"), ({"alg": "HS256"}, "none that is accepted"),
     ({"alg": "ES256"}, "none that is accepted"), ({"alg": []}, "none that is accepted"), ({"n": 7}, "make no key"),
     ({"n": ""}, "make no key"), ({"e": "!!"}, "make no key"), ({"e": None}, "make no key")],
)  # fmt: skip
def test_a_key_that_cannot_be_used_is_left_out_with_its_reason(
    caplog: pytest.LogCaptureFixture, changed: dict[str, Any], why: str
) -> None:
    wrong = public_jwk("rsa", kid="a") | changed
    with caplog.at_level(logging.WARNING):
        found = parse_keys(key_set(wrong, public_jwk("rsa", kid="b")), ALL)
    assert [*found] == ["b"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "key 0 of the issuer's keys is left out" in caplog.text
    assert why in caplog.text
    assert public_jwk("rsa")["n"] not in caplog.text
    assert refused(key_set(wrong)) == f"none of its keys can be used with {', '.join(ALL)}"


def test_short_keys_unknown_curves_and_strangers_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    good = public_jwk("p256", kid="b")
    off_the_curve = public_jwk("p256", kid="c") | {"y": public_jwk("p256")["x"]}
    for wrong, why in ((public_jwk("short", kid="a"), "an RSA key of 1024 bits is too short; 2048 are needed"), ("text", "no JSON object"),
                       (public_jwk("p256", kid="c") | {"crv": "secp256k1"}, "none that is accepted"), (off_the_curve, "make no key"),
                       (public_jwk("p256"), "no kid, and is not the only key")):  # fmt: skip
        caplog.clear()
        assert [*parse_keys(json.dumps({"keys": [good, wrong]}).encode(), ALL)] == ["b"]
        assert f"key 1 of the issuer's keys is left out: {why}" in caplog.text or why in caplog.text


def test_a_key_for_signatures_may_say_so() -> None:
    assert [*parse_keys(key_set(public_jwk("rsa", kid="a", use="sig")), ALL)] == ["a"]


def test_two_keys_of_one_name_are_refused() -> None:
    assert (
        refused(key_set(public_jwk("rsa", kid="a"), public_jwk("rsa", 1, kid="a")))
        == "its key 1 has the kid of another one"
    )


def test_a_set_may_hold_a_hundred_keys() -> None:
    assert len(parse_keys(key_set(*(public_jwk("p256", kid=str(n)) for n in range(100))), ALL)) == 100
