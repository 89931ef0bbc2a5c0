"""A small corpus on a real OpenSearch, and a proxy in front of it that misbehaves as told."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from pipelines.document import Chunk, Document, Position, Span
from pipelines.embed.embedder import Vectors
from pipelines.parts import part_table
from pipelines.releases import ReleaseLog
from pipelines.space import Space
from pipelines.store import open_store
from pipelines.targets.on_opensearch import OpenSearchTarget
from pipelines.targets.target import Generation, IndexSettings, Meta

DIMENSIONS = 8
SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, DIMENSIONS)
METADATA = ("lang", "value")


def chunk(number: int, **changes: Any) -> Chunk:
    document = Document(f"d{number}", "papers.jsonl", f"Title {number}", "", Position("papers.jsonl", number))
    text = str(changes.pop("text", f"row {number}"))
    return Chunk(replace(document, **changes), 0, text, Span(0, len(text)), text, 5)


def vectors(count: int, seed: int = 3) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def table(chunks: Sequence[Chunk], values: Vectors | None = None, *, first: int = 0) -> pa.Table:
    made = part_table(chunks, vectors(len(chunks), first) if values is None else values)
    made = made.append_column("partition", pa.array(["p"] * len(chunks)))
    return made.append_column("number", pa.array(range(first, first + len(chunks)), pa.int64()))


def chunks(start: int, end: int) -> list[Chunk]:
    return [chunk(number) for number in range(start, end)]


@dataclass
class Case:
    """One corpus of its own name, and one generation of it."""

    url: str
    corpus: str = field(default_factory=lambda: f"case{uuid.uuid4().hex[:10]}")

    @property
    def name(self) -> str:
        return f"{self.corpus}-one"

    @property
    def meta(self) -> Meta:
        return Meta(self.corpus, "r" * 12, SPACE.to_json(), METADATA)

    @property
    def log(self) -> ReleaseLog:
        return ReleaseLog(open_store(f"memory://{self.corpus}"), self.corpus)

    def target(self, *, url: str | None = None, deadline_s: float = 20.0, **settings: Any) -> OpenSearchTarget:
        values = {"target": "opensearch", "url": url or self.url, "replicas": 0, **settings}
        return OpenSearchTarget(IndexSettings(**values), self.log, deadline_s=deadline_s)

    def create(self, name: str | None = None) -> Generation:
        return self.target().create(name or self.name, self.meta, DIMENSIONS)

    def ids(self) -> set[str]:
        return {row["id"] for page in self.target().scan(self.name, "p") for row in page.rows}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json"}, method=method)  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """Instead of the node's. ``status`` None: the connection ends without one, after the node did the work."""

    status: int | None
    body: Any = None


Rule = Callable[[Request], Answer | None]


@contextmanager
def misbehaving_proxy(url: str, rule: Rule) -> Iterator[str]:
    """Forwards to ``url``, save for the requests that ``rule`` answers. Its lies: answers are not streamed, and a
    lost answer is always lost after the work, never before."""
    node = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = rule(Request(self.command, self.path, dict(self.headers), body))
            if answer is None or answer.status is None:
                status, kind, data = self._forward(body)
                if answer is not None:
                    self.close_connection = True
                    return
            else:
                status, kind, data = answer.status, "application/json", json.dumps(answer.body or {}).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _forward(self, body: bytes) -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection(str(node.hostname), node.port, timeout=30)
            try:
                headers = {"Content-Type": "application/json"} if body else {}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.headers.get("Content-Type", "application/json"), answer.read()
            finally:
                connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error_of(kind: str, reason: str = "told to") -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason}}
