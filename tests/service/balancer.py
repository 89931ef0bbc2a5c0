"""A small load balancer in a process of its own: asks backends whether they are ready, and takes turns among those.

Speaks HTTP/1.1 with content-length, keeps connections to both sides, and tries nothing twice: a request that a backend
loses is answered with 502. Told by the end of its standard input to stop, it prints how many requests each backend had.
Knows no service of ours but the path of its readiness.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvloop

from tests.e2e.command import PROJECT, environment

LOOK_S = 0.15
_LOOK_TIMEOUT_S = 2.0
_SILENCES = 2  # in a row make a backend not ready; its own word does so at once
_CHECK = b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n"
_CLOSE = b"\r\nconnection: close"
_NOBODY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 6\r\n\r\nnobody"
_LOST = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nlost"

Pair = tuple[StreamReader, StreamWriter]


@dataclass(eq=False)
class Backend:
    port: int
    ready: bool = False
    free: list[Pair] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    async def watch(self) -> None:
        silences = 0
        while True:
            status = await self._look()
            silences = 0 if status else silences + 1
            if status or silences >= _SILENCES:
                self.ready = status == 200
            await asyncio.sleep(LOOK_S)

    async def ask(self, request: bytes) -> bytes:
        """Raises OSError or EOFError where it did not answer."""
        reader, writer = await self._connection()
        try:
            writer.write(request)
            answer = await _message(reader)
        except (OSError, EOFError):
            writer.close()
            raise
        self.answers[answer[9:12].decode()] += 1
        if _CLOSE in answer.partition(b"\r\n\r\n")[0].lower():
            writer.close()
        else:
            self.free.append((reader, writer))
        return answer

    async def _connection(self) -> Pair:
        while self.free:
            reader, writer = self.free.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def _look(self) -> int:
        """Status of its readiness; 0: no answer."""
        with suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(_CHECK)
                answer = await _message(reader)
                writer.close()
                return int(answer[9:12])
        return 0


class Balancer:
    def __init__(self, ports: Sequence[int]) -> None:
        self.backends = [Backend(port) for port in ports]
        self._turn = 0
        self.lost = self.nobody = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                request = await _message(reader)
                writer.write(await self._answer(request))
        writer.close()

    async def _answer(self, request: bytes) -> bytes:
        ready = [each for each in self.backends if each.ready]
        if not ready:
            self.nobody += 1
            return _NOBODY
        self._turn += 1
        try:
            answer = await ready[self._turn % len(ready)].ask(request)
        except (OSError, EOFError):
            self.lost += 1
            return _LOST
        head, end, body = answer.partition(b"\r\n\r\n")
        at = head.lower().find(_CLOSE)  # was said to us; our client's connection goes on
        return (head if at < 0 else head[:at] + head[at + len(_CLOSE) :]) + end + body


async def _message(reader: StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    found = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return head + (await reader.readexactly(int(found)) if found else b"")


async def _main(ports: Sequence[int]) -> None:
    balancer = Balancer(ports)
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0, limit=1 << 22)
    watches = [asyncio.create_task(each.watch()) for each in balancer.backends]
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for watch in watches:
        watch.cancel()
    found = {str(each.port): dict(each.answers) for each in balancer.backends}
    print(json.dumps({"lost": balancer.lost, "nobody": balancer.nobody, "backends": found}), flush=True)


@dataclass
class Balancing:
    """``lost``, ``nobody`` and ``backends`` (statuses by port) are known after its end."""

    port: int
    lost: int = -1
    nobody: int = -1
    backends: dict[str, dict[str, int]] = field(default_factory=dict)


@contextmanager
def balancing(ports: Sequence[int]) -> Iterator[Balancing]:
    process = subprocess.Popen([sys.executable, "-m", "tests.service.balancer", *map(str, ports)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env=environment(), cwd=PROJECT, text=True)  # fmt: skip
    try:
        assert process.stdout is not None
        found = Balancing(int(process.stdout.readline()))
        yield found
        told = json.loads(process.communicate(timeout=30)[0])
        found.lost, found.nobody, found.backends = told["lost"], told["nobody"], told["backends"]
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ports", type=int, nargs="+", help="of the backends")
    uvloop.run(_main(parser.parse_args().ports))
