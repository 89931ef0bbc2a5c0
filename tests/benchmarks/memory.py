"""Peak resident memory of an embedding worker at 10,000 and at 100,000 documents, hash embedder.

One command: ``python -m tests.benchmarks.memory``. Writes results/memory.json. The peak is the kernel's own
high-water mark (VmHWM) of the worker process, read until it ends.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import write_results
from tests.e2e.command import COMMAND, environment, worker_processes
from tests.e2e.corpora import write_conf, write_corpus


def worker_peak_mb(folder: Path, documents: int) -> float:
    """MB of the larger worker of ``backhaul embed`` over ``documents`` documents of about 1 KB."""
    source = write_corpus(folder / f"source{documents}", objects=documents // 1000, documents=1000, words=120)
    conf = write_conf(folder / f"{documents}.yaml", root=f"file://{folder}/root{documents}", source=f"file://{source}",
                      embed={"rows_per_part": 2048, "dimensions": 384}, engine={"workers": 2},
                      partition={"target_tokens": 500_000})  # fmt: skip
    return peaks_mb("embed", conf)[0]


def peaks_mb(verb: str, conf: Path, *words: str) -> tuple[float, float]:
    """MB of the larger worker of a command, and of the driver."""
    driver = subprocess.Popen([*COMMAND, verb, str(conf), "--json", *words], env=environment(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
    worker, own = 0, 0
    while driver.poll() is None:
        own = max(own, _high_water_kb(driver.pid))
        for child in worker_processes(driver.pid):
            worker = max(worker, _high_water_kb(child.pid))
        time.sleep(0.05)
    if driver.returncode:
        raise SystemExit(f"backhaul {verb} ended with {driver.returncode}")
    return worker / 1024, own / 1024


def _high_water_kb(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="memory"))
    try:
        figures = {str(count): round(worker_peak_mb(folder, count), 1) for count in (10_000, 100_000)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = figures["100000"] / figures["10000"]
    print(json.dumps({"worker_peak_mb": figures, "ratio": round(ratio, 4)}))
    print(f"written to {write_results('memory', {'worker_peak_mb': figures, 'ratio': round(ratio, 4)})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
