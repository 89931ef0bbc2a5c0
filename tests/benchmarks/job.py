"""A whole job of embedding, Parquet in and Parquet out, beside its embedder alone and beside other libraries' pipelines.

One command: ``python -m tests.benchmarks.job [--rounds 5] [--documents 2400] [--quick]``. SciFact abstracts, MiniLM-L6-v2, local
files, one worker of two threads. In each round, interleaved, each in a process of its own: ``backhaul embed`` (planning,
checkpoints and manifest included) with torch in fp32 and with OpenVINO in int8; the same embedder in a bare loop over the same
texts; Ray Data and Daft with sentence-transformers, with defaults and tuned. All but OpenVINO take an eighth of the documents, the
next eighth in each round. Start-up is the same command over one document, in the first ``STARTS`` rounds. Writes results/job.json.

    rate = tokens / (seconds of the whole - median start-up)
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.embed.backends import open_tokenizer
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from tests.benchmarks.derived import MODEL, derived_file
from tests.benchmarks.machine import write_results
from tests.benchmarks.spread import spread
from tests.benchmarks.texts import input_of, read_documents
from tests.e2e.command import COMMAND, PROJECT, environment

STARTS = 3
ROWS_PER_PART = 256  # seconds of work each, as the settings advise
FLOORS = {"Backhaul, torch fp32": "its embedder, torch fp32", "Backhaul, openvino int8": "its embedder, openvino int8"}


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of one Parquet file, and the tokens that a model attends to in it."""

    folder: Path
    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Program:
    """``peer``: a file of peers/ with its further words; else Backhaul's embed, or its embedder ``alone``."""

    embed: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    peer: tuple[str, ...] = ()
    whole: bool = False  # takes all documents, not an eighth


def programs(device: str, data: Path) -> dict[str, Program]:
    torch = {"backend": "torch", "precision": "fp32"}
    tuned = ("bfloat16", "64") if device == "cpu" else ("float16", "512")
    found = {
        "Backhaul, torch fp32": Program(torch),
        "its embedder, torch fp32": Program(torch, alone=True),
        "Ray Data, defaults": Program(peer=("embed_with_ray_data",)),
        f"Ray Data, {tuned[0]}": Program(peer=("embed_with_ray_data", *tuned)),
        "Daft, defaults": Program(peer=("embed_with_daft",)),
        f"Daft, {tuned[0]}": Program(peer=("embed_with_daft", *tuned)),
    }
    if device == "cpu":
        fast = {"backend": "openvino", "precision": "int8", "derived": f"file://{derived_file('int8', data)}"}
        found["Backhaul, openvino int8"] = Program(fast, whole=True)
        found["its embedder, openvino int8"] = Program(fast, alone=True, whole=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=2400)
    parser.add_argument("--slow", type=int, default=8, help="how many times fewer documents the slow ones take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="one round of little, to see that all take part")
    parser.add_argument("--data", type=Path,
                        default=Path(os.environ.get("BACKHAUL_DATA", PROJECT.parent / "shared/data")))  # fmt: skip
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.documents, arguments.slow = 1, min(arguments.documents, 200), 2
    folder = Path(tempfile.mkdtemp(prefix="job"))
    try:
        figures = measure(folder, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    if not arguments.quick:
        name = "job" if arguments.device == "cpu" else f"job-{arguments.device}"
        print(f"written to {write_results(name, figures)}")
    return 0


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    documents = read_documents(arguments.data, "scifact", arguments.documents)
    one, every = _source(folder / "one", documents[:1]), _source(folder / "every", documents)
    shares = [
        _source(folder / f"share{n}", documents[n :: arguments.slow])
        for n in range(min(arguments.slow, arguments.rounds))
    ]
    chosen = programs(arguments.device, arguments.data)
    seconds: dict[str, list[float]] = defaultdict(list)
    starts: dict[str, list[float]] = defaultdict(list)
    tokens: dict[str, list[int]] = defaultdict(list)
    for number in range(arguments.rounds):
        for name, program in chosen.items():
            source = every if program.whole else shares[number % len(shares)]
            root = folder / f"{number}-{len(seconds)}"
            if number < STARTS and not program.alone:
                starts[name].append(_timed(root / "one", program, one, arguments))
            seconds[name].append(_timed(root / "all", program, source, arguments))
            tokens[name].append(source.tokens)
            shutil.rmtree(root, ignore_errors=True)
            print(
                name, round(seconds[name][-1], 2), [round(s, 2) for s in starts[name][-1:]], file=sys.stderr, flush=True
            )
    start = {name: statistics.median(starts[name]) if starts[name] else 0.0 for name in chosen}
    rates = {name: [t / (s - start[name]) for t, s in zip(tokens[name], seconds[name], strict=True)] for name in chosen}
    return {
        "documents": arguments.documents,
        "documents_of_the_slow": arguments.documents // arguments.slow,
        "device": arguments.device,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "tokens": every.tokens,
        "start_up_s": {name: spread(values, 2) for name, values in starts.items() if values},
        "whole_s": {name: spread(values, 2) for name, values in seconds.items()},
        "tokens_per_second": {name: spread(values, 0) for name, values in rates.items()},
        "share_of_its_embedder": {name: spread(_quotients(rates[name], rates[floor]))
                                  for name, floor in FLOORS.items() if name in rates},
        "faster_than_peers": {
            name: {other: spread(_quotients(rates[name], rates[other]), 2) for other in chosen if chosen[other].peer}
            for name in FLOORS if name in rates},
    }  # fmt: skip


def _quotients(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _source(folder: Path, documents: Sequence[dict[str, str]]) -> Source:
    (folder / "parquet").mkdir(parents=True)
    table = pa.table(
        {"id": [d["_id"] for d in documents], **{name: [d[name] for d in documents] for name in ("title", "text")}}
    )
    pq.write_table(table, folder / "parquet" / "documents.parquet")
    limit = resolve_model(MODEL, digest=None, storage=None).space.max_tokens
    counts = open_tokenizer(EmbedSettings(model=MODEL)).count([input_of(document) for document in documents])
    return Source(folder / "parquet", len(documents), sum(min(count, limit) for count in counts))


def _timed(root: Path, program: Program, source: Source, arguments: argparse.Namespace) -> float:
    """Seconds of the process; of the embedder alone those that it tells. Whoever loses a row ends the benchmark."""
    root.mkdir(parents=True)
    if program.peer:
        name, *words = program.peer
        file = PROJECT / "tests" / "benchmarks" / "peers" / f"{name}.py"
        model = resolve_model(MODEL, digest=None, storage=None).folder
        _, took = _ran([sys.executable, str(file), str(source.folder), str(root / "out"), str(model),
                        str(arguments.threads), *words], arguments)  # fmt: skip
        rows = sum(pq.read_metadata(file).num_rows for file in (root / "out").rglob("*.parquet"))
    else:
        conf = _conf(root, program, source, arguments.threads)
        if program.alone:
            return float(_ran([sys.executable, "-m", "tests.benchmarks.embed_only", str(conf)], arguments)[0])
        out, took = _ran([*COMMAND, "embed", str(conf), "--json"], arguments)
        rows = orjson.loads(out)["rows"]
    if rows != source.rows:
        raise SystemExit(f"{program} gave {rows} rows of {source.rows}")
    return took


def _ran(command: Sequence[str], arguments: argparse.Namespace) -> tuple[str, float]:
    extra = {"OMP_NUM_THREADS": str(arguments.threads), "DAFT_PROGRESS_BAR": "0", "TQDM_DISABLE": "1"}
    if arguments.device == "cpu":
        extra["CUDA_VISIBLE_DEVICES"] = ""
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environment(extra), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command[:3]} failed: {done.stderr[-2000:]}")
    return done.stdout, took


def _conf(root: Path, program: Program, source: Source, threads: int) -> Path:
    source_of = {
        "uri": f"file://{source.folder}",
        "format": "parquet",
        "fields": {"id": "id", "title": "title", "text": "text"},
    }
    embed = {"model": MODEL, "threads": threads, "rows_per_part": ROWS_PER_PART, **program.embed}
    path = root / "run.yaml"
    path.write_bytes(orjson.dumps({"corpus": "job", "root": f"file://{root}/root", "source": source_of, "embed": embed,
                                   "split": {"method": "none"}, "engine": {"name": "local", "workers": 1}}))  # fmt: skip
    return path


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
