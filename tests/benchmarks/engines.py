"""What the engines' machinery costs, and the same corpus through programs written by hand.

One command: ``python -m tests.benchmarks.engines [--rounds 5] [--engines local ray spark]``. 2,000 partitions of 20
documents of 180 words on ``file://``, hash embedder of 384 dimensions, two workers. In each round, interleaved: the
work itself (one process, a bare loop over the same Work), ``backhaul embed`` on each engine, and the programs in
``peers/`` with their defaults and with their documented best. Every run is a process of its own, timed as a whole;
start-up is the time of the same command over two partitions. Writes results/engines.json.

    added per partition = (whole - start-up - work itself / workers) / partitions
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.machine import write_results
from tests.e2e.command import COMMAND, PROJECT, environment
from tests.e2e.corpora import write_conf, write_corpus

PARTITIONS, DOCUMENTS, WORDS, WORKERS = 2000, 20, 180, 2
SMALL = 2  # partitions of the run that tells the start-up
# Ray Data's advice for many small files is fewer, larger blocks (its performance guide, "Tuning read parallelism");
# Spark's is a larger Arrow batch and off-heap sockets to the Python workers (its configuration page).
PEERS: dict[str, tuple[str, list[str]]] = {
    "ray data, defaults": ("with_ray_data", []),
    "ray data, best": ("with_ray_data", [str(4 * WORKERS)]),
    "pyspark, defaults": ("with_pyspark", []),
    "pyspark, best": ("with_pyspark", [
        "spark.sql.files.openCostInBytes=65536", "spark.sql.files.minPartitionNum=8",
        "spark.python.unix.domain.socket.enabled=true", "spark.sql.execution.arrow.maxRecordsPerBatch=10000"]),
}  # fmt: skip
OWN_PEERS = {"ray": "ray data", "spark": "pyspark"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="*", default=["local", "ray", "spark"])
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="engines"))
    try:
        figures = measure(folder, arguments.rounds, arguments.engines, arguments.partitions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('engines', figures)}")
    return 0


def measure(folder: Path, rounds: int, engines: Sequence[str], partitions: int) -> dict[str, Any]:
    source = write_corpus(folder / "source", objects=partitions, documents=DOCUMENTS, words=WORDS)
    small = write_corpus(folder / "small", objects=SMALL, documents=DOCUMENTS, words=WORDS)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        root = folder / f"root{number}"
        seconds["work itself"].append(_work_itself(_planned(folder, source, root / "work", "local", partitions)))
        for engine in engines:
            whole = _embed(_planned(folder, source, root / engine, engine, partitions))
            start = _embed(_planned(folder, small, root / f"{engine}-small", engine, SMALL))
            seconds[engine].append(whole)
            seconds[f"{engine}, start-up"].append(start)
        for name, (program, words) in PEERS.items():
            if any(name.startswith(OWN_PEERS.get(engine, "-")) for engine in engines):
                seconds[name].append(_peer(program, source, root / name.replace(", ", "-"), words))
        shutil.rmtree(root)
        print({name: round(values[-1], 2) for name, values in seconds.items()}, file=sys.stderr, flush=True)
    return {
        "partitions": partitions,
        "documents": partitions * DOCUMENTS,
        "workers": WORKERS,
        "rounds": rounds,
        "seconds": {name: _spread(values) for name, values in seconds.items()},
        "added_ms_per_partition": {
            engine: _spread([
                (whole - start - work / WORKERS) / (partitions - SMALL) * 1000
                for whole, start, work in zip(seconds[engine], seconds[f"{engine}, start-up"], seconds["work itself"],
                                              strict=True)])
            for engine in engines
        },
        "against_peers": {
            f"{engine} / {name}": _spread([a / b for a, b in zip(seconds[engine], seconds[name], strict=True)])
            for engine in engines for name in PEERS if name.startswith(OWN_PEERS.get(engine, "-"))
        },
    }  # fmt: skip


def _planned(folder: Path, source: Path, root: Path, engine: str, partitions: int) -> Path:
    conf = write_conf(folder / f"{root.parent.name}-{root.name}.yaml", root=f"file://{root}", source=f"file://{source}",
                      partition={"target_tokens": 3000, "max_objects": 2}, engine={"name": engine, "workers": WORKERS},
                      embed={"dimensions": 384})  # fmt: skip
    planned = subprocess.run(
        [*COMMAND, "plan", str(conf), "--json"], env=environment(), capture_output=True, check=True
    )
    assert orjson.loads(planned.stdout)["partitions"] == partitions
    return conf


def _embed(conf: Path) -> float:
    return _timed([*COMMAND, "embed", str(conf)])


def _peer(program: str, source: Path, out: Path, words: Sequence[str]) -> float:
    path = PROJECT / "tests" / "benchmarks" / "peers" / f"{program}.py"
    return _timed([sys.executable, str(path), str(source), str(out), str(WORKERS), *words])


def _timed(command: Sequence[str]) -> float:
    env = environment({"SPARK_LOCAL_IP": "127.0.0.1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
    began = time.perf_counter()
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - began


def _work_itself(conf: Path) -> float:
    """Seconds of a bare loop, told by a process of its own."""
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.engines_bare", str(conf)], env=environment(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    return float(done.stdout)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
