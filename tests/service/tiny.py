"""A tiny app behind the service's own server, connections and body limit, in a process of its own.

``/echo`` says how many bytes came, ``/wait/SECONDS`` answers after so long, ``/readyz`` as the service's. Knows no index.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from jobs.service.body import BodyLimit
from jobs.service.connections import connections_with
from jobs.service.draining import DrainingServer
from jobs.service.limits import ConnectionSettings
from jobs.service.problems import Refusal
from tests.e2e.command import PROJECT, environment

MAX_BODY_BYTES, BODY_S = 100_000, 0.5
LIMITS = ConnectionSettings(most=20, keep_alive_s=1, head_s=0.5, body_s=BODY_S, max_head_bytes=8_192)


class App:
    ready = True

    def __init__(self) -> None:
        self._routes = BodyLimit(self._route, max_bytes=MAX_BODY_BYTES, within_s=BODY_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._routes(scope, receive, send)
        except Refusal as refusal:
            await _answer(send, refusal.status, refusal.body(), refusal.headers())

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        path, size = scope["path"], 0
        if path == "/echo":
            more = True
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
        elif path.startswith("/wait/"):
            await asyncio.sleep(float(path.rpartition("/")[2]))
        elif path == "/readyz":
            await _answer(send, 200 if self.ready else 503, b"{}")
            return
        await _answer(send, 200, json.dumps({"bytes": size}).encode())

    def drain(self) -> None:
        self.ready = False


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    found = {"content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in found.items()]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})


def main(deregistration_s: float, drain_s: float) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    app = App()
    config = uvicorn.Config(app, loop="uvloop", http=connections_with(LIMITS), ws="none", lifespan="on", access_log=False,
                            server_header=False, log_config=None, timeout_keep_alive=LIMITS.keep_alive_s)  # fmt: skip
    print(bound.getsockname()[1], flush=True)
    server = DrainingServer(config, deregistration_s=deregistration_s, drain_s=drain_s, on_drain=app.drain)
    server.run([bound])


@dataclass
class Tiny:
    process: subprocess.Popen[str]
    port: int

    def connect(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection)


@contextmanager
def tiny(*, deregistration_s: float = 0.0, drain_s: float = 2.0) -> Iterator[Tiny]:
    """Killed at the end, if it still runs."""
    command = [sys.executable, "-m", "tests.service.tiny", str(deregistration_s), str(drain_s)]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = Tiny(process, int(process.stdout.readline()))
        while True:
            try:
                found.connect().close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.02)
        yield found
    finally:
        process.kill()
        process.communicate()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body); status 0: the connection was closed instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (got := connection.recv(65536))
        if not got:
            return 0, {}, data
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += (got := connection.recv(65536))
        assert got, "the answer breaks off"
    return int(first.split()[1]), headers, body


def spelled(path: str = "/echo", *headers: str, method: str = "POST", body: bytes = b"", length: int | None = None,
            ) -> bytes:  # fmt: skip
    """A request with ``content-length``, unless the headers have ``transfer-encoding``."""
    lines: list[Any] = [f"{method} {path} HTTP/1.1", "host: here", *headers]
    if not any(header.startswith("transfer-encoding") for header in headers):
        lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
