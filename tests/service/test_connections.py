"""Bodies, heads and connections are bounded in bytes, time and number, and who is refused is told so."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.service.tiny import BODY_S, LIMITS, MAX_BODY_BYTES, Tiny, read_answer, spelled, tiny

CHUNKED = "transfer-encoding: chunked"


@pytest.fixture(scope="module")
def server() -> Iterator[Tiny]:
    with tiny() as found:
        yield found


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def code(body: bytes) -> str:
    found: str = json.loads(body)["error"]["code"]
    return found


def test_a_body_of_just_so_many_bytes_is_taken_and_one_more_is_not(server: Tiny) -> None:
    status, _, body = server.ask(spelled(body=b"x" * MAX_BODY_BYTES))
    assert (status, json.loads(body)) == (200, {"bytes": MAX_BODY_BYTES})
    status, _, body = server.ask(spelled(body=b"x" * (MAX_BODY_BYTES + 1)))
    assert (status, code(body)) == (413, "too_large")


def test_after_a_body_of_a_little_too_much_the_connection_goes_on(server: Tiny) -> None:
    with server.connect() as connection:
        connection.sendall(spelled(body=b"x" * 300_000))
        assert read_answer(connection)[0] == 413
        connection.sendall(spelled(body=b"xyz"))
        assert read_answer(connection)[0] == 200


def test_a_body_that_says_that_it_is_huge_is_refused_before_it_comes(server: Tiny) -> None:
    status, headers, _ = server.ask(spelled(length=10_000_000_000))
    assert (status, headers["connection"]) == (413, "close")


def test_who_asks_before_sending_is_told_at_once(server: Tiny) -> None:
    expects = "expect: 100-continue"
    assert server.ask(spelled("/echo", expects, length=MAX_BODY_BYTES + 1))[0] == 413
    with server.connect() as connection:
        connection.sendall(spelled("/echo", expects, length=3))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"xyz")
        assert read_answer(connection)[2] == b'{"bytes": 3}'


def test_chunks_are_counted_as_they_come(server: Tiny) -> None:
    with server.connect() as connection:
        connection.sendall(spelled("/echo", CHUNKED) + chunk(b"x" * 1000) * 100 + b"0\r\n\r\n")
        assert read_answer(connection)[2] == b'{"bytes": 100000}'
        connection.sendall(spelled("/echo", CHUNKED) + chunk(b"x" * 1000) * 101 + b"0\r\n\r\n")
        assert read_answer(connection)[0] == 413


def test_endless_chunks_are_cut_off(server: Tiny) -> None:
    sent, lump = 0, chunk(b"x" * 60_000)
    with server.connect() as connection:
        connection.sendall(spelled("/echo", CHUNKED))
        with suppress(ConnectionError):
            while sent < 100_000_000:
                connection.sendall(lump)
                sent += len(lump)
    assert sent < 20_000_000


def test_a_body_that_drips_is_given_up(server: Tiny) -> None:
    began = time.monotonic()
    with server.connect() as connection:
        connection.sendall(spelled(length=1000))
        status, headers, body = _drip(connection, b"x")
    assert (status, code(body), headers["connection"]) == (408, "too_slow", "close")
    assert BODY_S - 0.1 < time.monotonic() - began < BODY_S + 1


@pytest.mark.parametrize(
    "beginning", [b"", b"POST /echo HTTP/1.1\r\nx-long: ", b"\r\n", spelled("/echo", method="GET")]
)
def test_a_head_that_drips_is_cut_off_also_after_a_request(server: Tiny, beginning: bytes) -> None:
    began = time.monotonic()
    with server.connect() as connection:
        connection.sendall(beginning)
        if beginning.endswith(b"\r\n\r\n"):
            assert read_answer(connection)[0] == 200
        assert _drip(connection, b"\n" if beginning == b"\r\n" else b"G")[0] in (0, 400)
    assert time.monotonic() - began < LIMITS.head_s + 1.5


def test_a_head_of_many_bytes_is_refused(server: Tiny) -> None:
    large = LIMITS.max_head_bytes + 1
    for request in (spelled("/echo", f"x-long: {'x' * large}"), spelled("/" + "x" * large), b"GET /" + b"x" * large,
                    spelled("/echo", *[f"x-{number}: 1" for number in range(large // 5)])):  # fmt: skip
        status, headers, body = server.ask(request)
        assert (status, code(body), headers["connection"]) == (431, "head_too_large", "close")


def test_what_is_no_http_is_told_so(server: Tiny) -> None:
    status, _, body = server.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (status, code(body)) == (400, "bad_request")


def test_both_lengths_at_once_are_refused(server: Tiny) -> None:
    """What one server on the way believes and another does not is how requests are smuggled."""
    request = spelled("/echo", CHUNKED, "content-length: 3") + b"0\r\n\r\n"
    assert server.ask(request)[0] == 400
    assert server.ask(spelled("/echo", "content-length: 5", body=b"xyz"))[0] == 400


def test_an_offer_of_http2_is_passed_over(server: Tiny) -> None:
    offers = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(spelled("/echo", *offers, body=b"xyz"))
            assert read_answer(connection)[2] == b'{"bytes": 3}'


def test_one_connection_too_many_is_told_so_and_others_go_on(server: Tiny) -> None:
    held = [server.connect() for _ in range(LIMITS.most)]
    try:
        held[0].sendall(spelled(body=b"x"))
        assert read_answer(held[0])[0] == 200
        with server.connect() as connection:
            status, headers, body = read_answer(connection)
            assert (status, code(body), headers["retry-after"]) == (503, "overloaded", "1")
        held[1].sendall(spelled(body=b"x"))
        assert read_answer(held[1])[0] == 200
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.1)
    assert server.ask(spelled(body=b"x"))[0] == 200


def test_silent_connections_are_closed(server: Tiny) -> None:
    with server.connect() as never, server.connect() as once:
        once.sendall(spelled(body=b"x"))
        assert read_answer(once)[0] == 200
        began = time.monotonic()
        assert never.recv(1) == b""
        assert time.monotonic() - began < LIMITS.head_s + 1
        assert once.recv(1) == b""
        assert LIMITS.keep_alive_s - 0.3 < time.monotonic() - began < LIMITS.keep_alive_s + 1


def _drip(connection: socket.socket, data: bytes) -> tuple[int, dict[str, str], bytes]:
    connection.settimeout(0.05)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            connection.sendall(data)
            answer = read_answer(connection)
        except TimeoutError:
            continue
        except ConnectionError:
            return 0, {}, b""
        connection.settimeout(10)
        return answer
    raise AssertionError("it was not given up")
