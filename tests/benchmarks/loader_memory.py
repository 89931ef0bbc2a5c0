"""Peak resident memory of the loader at 100,000 and at 1,000,000 rows, against a sink that answers like a node.

One command: ``python -m tests.benchmarks.loader_memory``. The rows are those of the hash embedder, 64 dimensions; ``backhaul
load`` with one worker sends them to a proxy that takes every bulk, and passes everything else to a real node. Writes
results/loader_memory.json. The peaks are the kernel's own high-water marks (VmHWM) of the worker and of the driver.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import write_results
from tests.benchmarks.memory import peaks_mb
from tests.e2e.command import backhaul
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.faulty_opensearch import Sink, faulty_opensearch
from tests.fixtures.opensearch import running_node


def loader_peaks_mb(folder: Path, node: str, rows: int) -> tuple[float, float]:
    """MB of the worker and of the driver."""
    source = write_corpus(folder / f"source{rows}", objects=rows // 1000, documents=1000, words=40)
    conf = write_conf(folder / f"{rows}.yaml", root=f"file://{folder}/root{rows}", source=f"file://{source}",
                      corpus=f"sink{rows}", embed={"rows_per_part": 2048, "dimensions": 64}, engine={"workers": 4},
                      partition={"target_tokens": 400_000}, index={"target": "opensearch", "url": node, "replicas": 0})  # fmt: skip
    done = backhaul("embed", conf, timeout_s=3600)
    assert done.code == 0, done.err
    sink, began = Sink(), time.monotonic()
    with faulty_opensearch(node, sink) as url:
        peaks = peaks_mb("load", conf, "--set", f"index.url={url}", "--set", "engine.workers=1")
    assert sum(sink.partitions.values()) == rows
    print(
        f"{rows} rows in {len(sink.partitions)} partitions, {time.monotonic() - began:.0f} s: {peaks}", file=sys.stderr
    )
    return peaks


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="loader-memory"))
    try:
        with running_node() as node:
            few, many = (loader_peaks_mb(folder, node.url, rows) for rows in (100_000, 1_000_000))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"worker_peak_mb": {"100000": round(few[0], 1), "1000000": round(many[0], 1)},
               "driver_peak_mb": {"100000": round(few[1], 1), "1000000": round(many[1], 1)},
               "worker_ratio": round(many[0] / few[0], 4)}  # fmt: skip
    print(json.dumps(figures))
    print(f"written to {write_results('loader_memory', figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
