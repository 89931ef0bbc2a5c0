"""How much of a service's limit a remote embedder uses, and how often it is refused, in real time over HTTP.

One command: ``python -m tests.benchmarks.remote [--seconds 25]``. Stand-ins of the OpenAI protocol and of Bedrock impose
limits of requests or tokens a minute by token buckets; embedders with nothing but the addresses send texts for a while,
and what the server took after the first seconds (the bucket's own contents) is compared with what the limit let through.
Two embedders share one limit in some cases. Then a server without limits, to see what the client costs by itself.
Writes results/remote.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Embedder
from pipelines.embed.settings import EmbedSettings
from tests.benchmarks.machine import write_results
from tests.fixtures.aws_embedding import Bedrock
from tests.fixtures.embedding_services import Bucket, OpenAi
from tests.fixtures.http_stand_in import serving
from tests.fixtures.s3 import CREDENTIALS

WARM_S = 6.0
DIMENSIONS, LATENCY_S = 256, 0.15


def texts_of(seed: int, count: int, low: int, high: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(["word"] * chance.randint(low, high)) for _ in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0)
    seconds = parser.parse_args().seconds
    os.environ.update({**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"})
    figures: dict[str, Any] = {"seconds": seconds, "warm_seconds": WARM_S, "limits": {}}
    for name, case in CASES.items():
        figures["limits"][name] = found = case(seconds)
        print(name, orjson.dumps(found).decode(), flush=True)
    figures["no_limit"] = without_limit()
    print(orjson.dumps(figures["no_limit"]).decode())
    print(f"written to {write_results('remote', figures)}")
    return 0


def openai(
    per_s: float, what: str, *, told: bool, clients: int = 1, most_s: float = 1.0
) -> Callable[[float], dict[str, Any]]:
    """Of ``per_s`` requests or tokens a second; the bucket holds ``most_s`` seconds of it."""

    def case(seconds: float) -> dict[str, Any]:
        bucket = Bucket(per_s, per_s * most_s)
        server = OpenAi(DIMENSIONS, delay_s=LATENCY_S, told=told, **{what: bucket})
        remote = {"model": "m", "dimensions": DIMENSIONS, "max_tokens": 512, "texts_per_request": 8}
        count = lambda: sum(server.met.values()) - server.met[429] if what == "requests" else server.billed  # noqa: E731
        return _measured(server, "http", remote, "/v1", count, lambda: server.met[429], per_s, seconds, clients)

    return case


def bedrock(per_s: float, *, clients: int = 1) -> Callable[[float], dict[str, Any]]:
    """Titan: one text a request, of tokens a second, and nothing told but ThrottlingException."""

    def case(seconds: float) -> dict[str, Any]:
        server = Bedrock(DIMENSIONS, tokens=Bucket(per_s, per_s))
        remote = {"model": "amazon.titan-embed-text-v2:0", "dimensions": DIMENSIONS, "max_tokens": 512}
        return _measured(
            server, "bedrock", remote, "", lambda: server.billed, lambda: server.met[429], per_s, seconds, clients
        )

    return case


def _measured(server: Any, backend: str, remote: dict[str, Any], path: str, taken: Callable[[], int],
              refused: Callable[[], int], per_s: float, seconds: float, clients: int) -> dict[str, Any]:  # fmt: skip
    with serving(server) as url:
        settings = EmbedSettings.model_validate({"backend": backend, "remote": {**remote, "url": url + path}})
        embedders = [open_embedder(settings) for _ in range(clients)]
        over = threading.Event()
        threads = [threading.Thread(target=_send, args=(one, number, over)) for number, one in enumerate(embedders)]
        for thread in threads:
            thread.start()
        time.sleep(WARM_S)
        began, before, refused_before = time.monotonic(), taken(), refused()
        time.sleep(seconds)
        took, after, refused_after = time.monotonic() - began, taken(), refused()
        over.set()
        for one in embedders:
            _stop(one)
        for thread in threads:
            thread.join()
    requests = sum(server.met.values())
    return {"share_of_limit": round((after - before) / took / per_s, 3), "limit_per_s": per_s,
            "refused": refused_after - refused_before, "requests": requests, "workers": clients}  # fmt: skip


class _Over(Exception):
    pass


def _send(embedder: Embedder, seed: int, over: threading.Event) -> None:
    with contextlib.suppress(_Over):
        while not over.is_set():
            embedder.embed(texts_of(seed, 64, 40, 80), "document")


def _stop(embedder: Any) -> None:
    """Makes the call under way end: the rest of its texts are not asked for."""

    def send(texts: Any, role: Any) -> Any:
        raise _Over

    embedder._service.send = send


def without_limit() -> dict[str, float]:
    """Texts a second, and CPU of client and server together, where nothing but the two of them is in the way."""
    server, texts = OpenAi(DIMENSIONS, shuffle=False), texts_of(1, 8_000, 40, 80)
    with serving(server) as url:
        remote = {
            "model": "m",
            "url": f"{url}/v1",
            "dimensions": DIMENSIONS,
            "max_tokens": 512,
            "texts_per_request": 64,
        }
        embedder = open_embedder(EmbedSettings.model_validate({"backend": "http", "remote": remote}))
        embedder.embed(texts[:640], "document")
        began = time.monotonic()
        embedder.embed(texts, "document")
        took = time.monotonic() - began
    return {"texts": len(texts), "texts_per_second": round(len(texts) / took, 1)}


CASES: dict[str, Callable[[float], dict[str, Any]]] = {
    "OpenAI, 600 requests/min, nothing told": openai(10, "requests", told=False),
    "OpenAI, 600 requests/min, headers": openai(10, "requests", told=True),
    "OpenAI, 300,000 tokens/min, nothing told": openai(5_000, "tokens", told=False),
    "OpenAI, 300,000 tokens/min, headers": openai(5_000, "tokens", told=True),
    "OpenAI, 300,000 tokens/min, headers, two workers": openai(5_000, "tokens", told=True, clients=2),
    "OpenAI, 300,000 tokens/min, nothing told, two workers": openai(5_000, "tokens", told=False, clients=2),
    "Bedrock Titan, 120,000 tokens/min": bedrock(2_000),
}


if __name__ == "__main__":
    sys.exit(main())
