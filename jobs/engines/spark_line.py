"""The line between the Spark driver and each Python worker: beats one way, "stop" the other, while tasks run.

Spark carries partitions and outcomes; it has no way to speak with a running task, and this is all of it. Knows
neither Spark nor a Work. A worker that cannot reach the driver's port does without: no promise but prompt beats
and a part finished at a stop rests on it.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

log = logging.getLogger(__name__)
_CONNECT_S = 5.0
_LONGEST = 4096  # bytes of a message
_END_S = 1.0
_WITHOUT = "beats come late, and a stop costs the part in hand; engine.spark.port names a port that workers reach"

Message = list[Any]  # its kind, and what belongs to it; JSON, so that nothing from a network is unpickled


@dataclass(frozen=True, slots=True)
class Address:
    """Where the driver listens, and what proves that a caller is a worker of this run."""

    host: str
    port: int
    secret: str


class Lines:
    """The driver's end of them all. ``hear`` is called from threads, with a line's number and what came on it;
    ``["gone"]`` last. ``address`` is None, and no line ever opens, where ``bind`` cannot be listened at."""

    def __init__(self, host: str, bind: str, port: int, hear: Callable[[int, Message], None]) -> None:
        self.address: Address | None = None
        self._hear = hear
        self._lines: dict[int, socket.socket] = {}
        self._changed = threading.Condition()
        self._greeting: Message | None = None
        self._count = 0
        try:
            self._listener = socket.create_server((bind, port))
        except OSError as error:
            log.warning("cannot listen at %s:%d (%s): %s", bind, port, error, _WITHOUT)
            return
        self.address = Address(host, self._listener.getsockname()[1], secrets.token_hex(32))
        self._thread = threading.Thread(target=self._accept, name="spark-lines", daemon=True)
        self._thread.start()

    def say(self, message: Message, *, to: int | None = None) -> None:
        """To one line, or to all and, from now on, first to every new one."""
        with self._changed:
            if to is None:
                self._greeting = message
            for number in list(self._lines) if to is None else [to]:
                if number in self._lines:
                    _send(self._lines[number], message)

    def close(self, within_s: float) -> bool:
        """Say bye, and wait until every worker has hung up. Returns whether all did."""
        if self.address is None:
            return True
        self.say(["bye"])
        with self._changed:
            all_left = self._changed.wait_for(lambda: not self._lines, within_s)
            for line in self._lines.values():
                _hang_up(line)
        _hang_up(self._listener)
        self._listener.close()
        self._thread.join(_END_S)
        return all_left

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self._count += 1
            threading.Thread(target=self._serve, args=(self._count, line), daemon=True).start()

    def _serve(self, number: int, line: socket.socket) -> None:
        with line, line.makefile("rb") as read:
            if not self._knows(line, read):
                return
            with self._changed:
                self._lines[number] = line
                if self._greeting:
                    _send(line, self._greeting)
            try:
                while message := _receive(read):
                    self._hear(number, message)
            finally:
                with self._changed:
                    del self._lines[number]
                    self._changed.notify_all()
                self._hear(number, ["gone"])

    def _knows(self, line: socket.socket, read: BinaryIO) -> bool:
        """Whether the caller has the run's secret, which itself is never sent."""
        assert self.address is not None
        line.settimeout(_CONNECT_S)
        question = secrets.token_hex(32)
        _send(line, [question])
        answer = _receive(read)
        line.settimeout(None)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return bool(answer) and hmac.compare_digest(str(answer[0]), _proof(self.address, question))


class Line:
    """The worker's end. ``hear`` is called from a thread, with ``["gone"]`` last."""

    def __init__(self, address: Address, hear: Callable[[Message], None]) -> None:
        """Raises OSError when the driver cannot be reached."""
        self._line = socket.create_connection((address.host, address.port), _CONNECT_S)
        self._read = self._line.makefile("rb")
        question = _receive(self._read)
        if not question:
            self.close()
            raise ConnectionError("the driver hung up")
        _send(self._line, [_proof(address, str(question[0]))])
        self._line.settimeout(None)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._hear = hear
        threading.Thread(target=self._listen, name="spark-line", daemon=True).start()

    def tell(self, message: Message) -> None:
        _send(self._line, message)

    def close(self) -> None:
        _hang_up(self._line)
        self._read.close()
        self._line.close()

    def _listen(self) -> None:
        while message := _receive(self._read):
            self._hear(message)
        self._hear(["gone"])


def connect(address: Address | None, hear: Callable[[Message], None]) -> Line | None:
    """The line to the driver, None where there is none to be had."""
    if address is None:
        return None
    try:
        return Line(address, hear)
    except OSError as error:
        log.warning("the driver does not answer at %s:%d (%s): %s", address.host, address.port, error, _WITHOUT)
        return None


def _proof(address: Address, question: str) -> str:
    return hmac.digest(address.secret.encode(), question.encode(), "sha256").hex()


def _send(line: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):  # who is gone is noticed where the line is read
        line.sendall(json.dumps(message).encode() + b"\n")


def _receive(read: BinaryIO) -> Message:
    """The next message; empty when the other end hung up, or speaks something else."""
    try:
        value = json.loads(read.readline(_LONGEST))
    except (OSError, ValueError):
        return []
    return value if isinstance(value, list) else []


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
