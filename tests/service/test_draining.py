"""SIGTERM costs nobody an answer: not ready at once, answering for a while, then ending with what is under way."""

from __future__ import annotations

import signal
import socket
import threading
import time

import pytest

from tests.service.tiny import Tiny, read_answer, spelled, tiny

READY = spelled("/readyz", method="GET")
ECHO = spelled(body=b"x")


def ended(server: Tiny, within_s: float) -> int:
    return server.process.wait(within_s)


def test_it_is_not_ready_at_once_and_answers_until_it_ends_with_exit_code_0() -> None:
    with tiny(deregistration_s=1.0) as server:
        assert server.ask(READY)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        time.sleep(0.02)
        assert server.ask(READY)[0] == 503
        answers = 0
        while time.monotonic() < told + 0.9:
            assert server.ask(ECHO)[0] == 200
            answers += 1
        assert answers > 20
        assert ended(server, 2) == 0
        assert 1 <= time.monotonic() - told < 2


def test_each_answer_closes_its_connection_meanwhile_and_before_it_does_not() -> None:
    with tiny(deregistration_s=0.6) as server, server.connect() as used, server.connect() as idle:
        used.sendall(ECHO)
        assert "connection" not in read_answer(used)[1]
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        for connection in (used, idle):
            connection.sendall(ECHO)
            status, headers, _ = read_answer(connection)
            assert (status, headers["connection"]) == (200, "close")
            assert connection.recv(1) == b""
        assert ended(server, 3) == 0


def test_what_is_under_way_at_the_end_is_answered() -> None:
    with tiny(drain_s=2.0) as server, server.connect() as connection:
        connection.sendall(spelled("/wait/0.6"))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (200, "close")
        assert ended(server, 1) == 0


def test_what_takes_longer_is_cut_off() -> None:
    with tiny(drain_s=1.0) as server, server.connect() as connection:
        connection.sendall(spelled("/wait/60"))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert ended(server, 3) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_waiting_for_the_load_balancer(second: signal.Signals) -> None:
    with tiny(deregistration_s=60) as server, server.connect() as connection:
        connection.sendall(spelled("/wait/0.6"))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        server.process.send_signal(second)
        assert read_answer(connection)[0] == 200
        assert ended(server, 1) == 0


def test_ctrl_c_waits_for_no_load_balancer() -> None:
    with tiny(deregistration_s=60) as server:
        server.process.send_signal(signal.SIGINT)
        assert ended(server, 2) == 0


def test_a_third_signal_waits_for_nothing() -> None:
    with tiny(deregistration_s=60, drain_s=60) as server, server.connect() as connection:
        connection.sendall(spelled("/wait/60"))
        time.sleep(0.1)
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.15)
        assert ended(server, 2) == 0


def test_clients_that_keep_their_connections_lose_nothing() -> None:
    with tiny(deregistration_s=0.8) as server:
        lost, answered = list[int](), list[int]()
        over = threading.Event()

        def ask() -> None:
            connection: socket.socket | None = None
            while not over.is_set():
                connection = connection or server.connect()
                connection.sendall(ECHO)
                status, headers, _ = read_answer(connection)
                (answered if status == 200 else lost).append(status)
                if headers.get("connection") == "close":
                    connection.close()
                    connection = None
                time.sleep(0.005)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        over.set()  # the load balancer has seen that it goes
        for thread in threads:
            thread.join()
        assert ended(server, 3) == 0
    assert len(answered) > 100
    assert not lost
