"""A process that asks a service at random moments of a fixed rate, and notes what became of each request.

The moments are fixed ahead: a slow answer delays no later request, and latencies count from the moment a request was
due. Requests go over kept connections, of which there are as many as there are requests under way. Where a question holds
``NUMBER``, each request has a number of its own there, so that no two are alike. Told by the end of its standard input to
stop, or after ``--seconds``, it prints its answers, one JSON array a line. Judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import orjson
import uvloop

from tests.e2e.command import PROJECT, environment

READY = "ready"
NUMBER = "@@@@@@"
_NUMBER = NUMBER.encode()
_GIVEN_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Moments are of the machine's monotonic clock. ``status`` 0: there was none, and ``code`` says why. ``marks`` are those
    of all hits (their ``metadata.lang``), each once; empty unless they were asked for."""

    due: float
    sent: float
    answered: float
    status: int
    code: str = ""
    retry_after_s: int | None = None
    generation: str = ""
    marks: tuple[str, ...] = ()
    hits: int = 0

    @property
    def seconds(self) -> float:
        return self.answered - self.due


class _Wire(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._data = b""
        self._waiting: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.closed = False

    def connection_made(self, transport: Any) -> None:  # Any: asyncio types it as it is received
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes, bytes]]:
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._data = b""
        waiting, self._waiting = self._waiting, None
        if b"\r\nconnection: close" in head:
            self.closed = True
            self._transport.close()
        if waiting and not waiting.done():
            waiting.set_result((int(head[9:12]), head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("closed without an answer"))

    def close(self) -> None:
        self.closed = True
        self._transport.close()


class _Load:
    def __init__(self, port: int, bodies: Sequence[bytes], *, marks: bool, token: str) -> None:
        self._port, self._marks = port, marks
        authorization = f"authorization: Bearer {token}\r\n" if token else ""
        self._requests = [
            f"POST /v1/search HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n{authorization}"
            f"content-length: {len(body)}\r\n\r\n".encode() + body
            for body in bodies
        ]  # fmt: skip
        self._free: list[_Wire] = []
        self.answers: list[Answer] = []

    async def run(self, per_s: float, begin: float, seconds: float, over: asyncio.Event, seed: int) -> None:
        chance, under_way = random.Random(seed), set[asyncio.Task[None]]()
        due, number = begin, 0
        while not over.is_set():
            due += chance.expovariate(per_s)
            if due > begin + seconds:
                break
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            request = self._requests[number % len(self._requests)].replace(_NUMBER, b"%06d" % (number % 1_000_000))
            task = asyncio.create_task(self._one(due, request))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        if under_way:
            await asyncio.wait(under_way)

    async def _one(self, due: float, request: bytes) -> None:
        sent, wire = time.monotonic(), None
        try:
            async with asyncio.timeout(_GIVEN_UP_S):
                wire = await self._wire()
                status, head, body = await wire.ask(request)
        except (OSError, TimeoutError) as error:
            self.answers.append(Answer(due, sent, time.monotonic(), 0, repr(error)))
            if wire is not None:
                wire.close()
            return
        answered = time.monotonic()
        if not wire.closed:
            self._free.append(wire)
        self.answers.append(self._told(Answer(due, sent, answered, status), head, body))

    def _told(self, answer: Answer, head: bytes, body: bytes) -> Answer:
        at = (answer.due, answer.sent, answer.answered, answer.status)
        if answer.status == 200:
            if not self._marks:
                return answer
            found = orjson.loads(body)
            marks = {hit["metadata"]["lang"] for hit in found["hits"]}
            return Answer(*at, generation=found["generation"], marks=tuple(sorted(marks)), hits=len(found["hits"]))
        after = head.partition(b"retry-after:")[2].split(b"\r\n", 1)[0].strip()
        try:
            code = orjson.loads(body)["error"]["code"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            code = body[:100].decode(errors="replace")
        return Answer(*at, code=code, retry_after_s=int(after) if after else None)

    async def _wire(self) -> _Wire:
        while self._free:
            wire = self._free.pop()
            if not wire.closed:
                return wire
        _, made = await asyncio.get_running_loop().create_connection(lambda: _Wire(self), "127.0.0.1", self._port)
        return made


async def _main(arguments: argparse.Namespace) -> list[Answer]:
    load = _Load(
        arguments.port, [body.encode() for body in arguments.body], marks=arguments.marks, token=arguments.token
    )
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    print(READY, flush=True)
    begin = float(await loop.run_in_executor(None, sys.stdin.readline))
    ended = loop.run_in_executor(None, sys.stdin.read)
    ended.add_done_callback(lambda _: over.set())
    await load.run(arguments.rate, begin, arguments.seconds, over, arguments.seed)
    return load.answers


@contextmanager
def loaded(port: int, rate: float, bodies: Sequence[dict[str, Any]], *, marks: bool = False, token: str = "", seed: int = 1,
           seconds: float = 1e9) -> Iterator[list[Answer]]:  # fmt: skip
    """Asks until the block ends; then the answers are there."""
    answers: list[Answer] = []
    words = ["--port", str(port), "--rate", str(rate), "--seconds", str(seconds), "--seed", str(seed), "--token", token]
    command = [sys.executable, "-m", "tests.service.load", *words, *(["--marks"] if marks else [])]
    command += [word for body in bodies for word in ("--body", json.dumps(body))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=PROJECT,
                               text=True)  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == READY, "it did not start"
        process.stdin.write(f"{time.monotonic()}\n")
        process.stdin.flush()
        yield answers
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, f"it ended with {process.returncode}"
        for line in out.splitlines():
            *values, marks_found, hits = json.loads(line)
            answers.append(Answer(*values, tuple(marks_found), hits))
    finally:
        process.kill()
        process.communicate()


def load_for(seconds: float, port: int, rate: float, bodies: Sequence[dict[str, Any]], **more: Any) -> list[Answer]:
    with loaded(port, rate, bodies, seconds=seconds, **more) as answers:
        time.sleep(seconds)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--body", action="append", required=True, help="a question, as JSON; they take turns")
    parser.add_argument("--token", default="")
    parser.add_argument("--marks", action="store_true", help="read answers for their generation and marks")
    for answer in uvloop.run(_main(parser.parse_args())):
        print(json.dumps(astuple(answer)))


if __name__ == "__main__":
    main()
