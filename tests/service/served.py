"""A small corpus of several tenants, indexed, and the real service over it in a process of its own."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.e2e.command import backhaul_here, environment
from tests.e2e.corpora import write_conf

TENANTS = ("acme", "blue", "cobalt", "delta", "echo")
_WORDS = [
    a + b
    for a in ("wagon", "axle", "steam", "river", "stone", "cloud", "field", "night")
    for b in ("", "s", "ing", "yard")
]


def write_tenants(folder: Path, *, documents: int = 60, seed: int = 5) -> Path:
    """One object; documents of each tenant in turn, about the same words, some ids in common between tenants."""
    chance = random.Random(seed)
    rows = [
        {"id": f"d{number // len(TENANTS)}", "title": " ".join(chance.choices(_WORDS, k=3)),
         "text": ". ".join(" ".join(chance.choices(_WORDS, k=12)) for _ in range(4)), "kind": ("faq", "guide")[number % 2],
         "team": TENANTS[number % len(TENANTS)], "day": f"2024-{1 + number % 12:02d}-15", "stars": number % 6 + 0.5,
         "lang": ("en", "de")[number % 2]}
        for number in range(documents)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return folder


def tenants_conf(folder: Path, **sections: Any) -> Path:
    """A run description of that corpus: LanceDB and the hash embedder unless ``sections`` say otherwise."""
    source = folder / "source"
    if not source.exists():
        write_tenants(source)
    fields = {
        "id": "id",
        "title": "title",
        "text": "text",
        "doc_type": "kind",
        "tenant": "team",
        "date": "day",
        "metadata": ["lang", "stars"],
    }
    values: dict[str, Any] = {
        "root": f"file://{folder}/root", "source": f"file://{source}", "corpus": "tenants",
        "split": {"method": "sentences", "max_tokens": 32, "overlap_tokens": 0}, "engine": {"workers": 0},
    }  # fmt: skip
    return write_conf(folder / "run.yaml", fields=fields, **{**values, **sections})


def index(conf: Path) -> None:
    done = backhaul_here("run", conf, "--json")
    assert done.code == 0, done.err


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: each would read all certificates of the system."""
    return ssl.create_default_context()


@dataclass
class Served:
    """``url`` without a slash at its end."""

    url: str
    process: subprocess.Popen[bytes]

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(**{"base_url": self.url, "headers": headers, "timeout": 30, "verify": _tls(), **options})

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def search(self, *, token: str | None = None, **asked: Any) -> dict[str, Any]:
        with self.client(token) as client:
            answer = client.post("/v1/search", json=asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def served(conf: Path, *words: str, env: Mapping[str, str] | None = None, log: Path | None = None, ready: bool = True,
           port: int | None = None) -> Iterator[Served]:  # fmt: skip
    """``backhaul serve`` until the block ends; its output goes to ``log``."""
    port = port or free_port()
    log = log or conf.with_suffix(f".{port}.log")
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "jobs.main", "serve", str(conf), "--port", str(port),
                                    "--set", "serve.deregistration_s=0", *words],
                                   env=environment(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # fmt: skip
    found = Served(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(found, log, ready=ready)
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until(found: Served, log: Path, *, ready: bool, within_s: float = 60) -> None:
    """Until it answers, and is ready if that is asked."""
    deadline = time.monotonic() + within_s
    path = "/readyz" if ready else "/healthz"
    while True:
        assert found.process.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            if found.get(path).status_code == 200:
                return
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
