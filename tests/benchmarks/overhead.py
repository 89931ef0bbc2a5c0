"""What Backhaul adds to its embedder: one worker's rate against a bare loop over the same embedder, same batches.

One command: ``python -m tests.benchmarks.overhead``. 1,000 SciFact documents, torch, equal threads, interleaved
rounds in one process (so that both meet the same noise); start-up of the command line is reported apart.
Writes results/overhead.json.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from jobs.session import Session
from jobs.settings import Settings
from jobs.verbs.plan import plan_corpus
from pipelines.embed.embedder import Embedder
from pipelines.embed.work import EmbedTask, EmbedWork
from tests.benchmarks.machine import write_results

DOCUMENTS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BACKHAUL_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="overhead"))
    try:
        figures = measure(folder, arguments.data / "scifact", arguments.rounds, arguments.threads)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('overhead', figures)}")
    return 0


def measure(folder: Path, scifact: Path, rounds: int, threads: int) -> dict[str, Any]:
    (folder / "source").mkdir()
    with gzip.open(scifact / "corpus.jsonl.gz") as lines:
        rows = list(itertools.islice(lines, DOCUMENTS))
    (folder / "source" / "documents.jsonl").write_bytes(b"".join(rows))
    inputs = [f"{row['title']} {row['text']}".strip() for row in map(orjson.loads, rows)]
    embedder: Embedder | None = None
    bare, backhaul, tokens = [], [], 0
    for number in range(rounds + 1):  # the first round warms up and is left out
        session = _session(folder, number, threads)
        plan = plan_corpus(session).plan
        s = session.settings
        work = EmbedWork(EmbedTask(root=s.root, storage=s.storage, source=s.source, split=s.split, embed=s.embed,
                                   run_id=plan.run_id, space=plan.space.to_json()))  # fmt: skip
        embedder = embedder or work._embedder
        work._embedder = embedder
        size = s.embed.rows_per_part
        began = time.perf_counter()
        for start in range(0, len(inputs), size):
            embedder.embed(inputs[start : start + size], "document")
        middle = time.perf_counter()
        ledgers = [work(partition)["ledger"] for partition in plan.partitions]
        tokens = sum(ledger["tokens"] - ledger["truncated_tokens"] for ledger in ledgers)
        ended = time.perf_counter()
        if number:
            bare.append(middle - began)
            backhaul.append(ended - middle)
    shares = [a / b for a, b in zip(bare, backhaul, strict=True)]
    return {
        "documents": DOCUMENTS,
        "tokens": tokens,
        "threads": threads,
        "rounds": rounds,
        "bare_tokens_per_second": _spread([tokens / seconds for seconds in bare]),
        "backhaul_tokens_per_second": _spread([tokens / seconds for seconds in backhaul]),
        "share_of_bare_rate": _spread(shares),
    }


def _session(folder: Path, number: int, threads: int) -> Session:
    return Session(Settings.model_validate({
        "corpus": "overhead",
        "root": f"file://{folder}/root{number}",
        "source": {"uri": f"file://{folder}/source", "fields": {"id": "_id"}},
        "split": {"method": "none"},
        "embed": {"backend": "torch", "threads": threads, "rows_per_part": 256},
    }), quiet=True)  # fmt: skip


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    sys.exit(main())
