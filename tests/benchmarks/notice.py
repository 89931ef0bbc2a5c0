"""From a notice to the exit: processes of the embed verb, told to stop in the midst of parts of about a second.

One command: ``python -m tests.benchmarks.notice``. A third each SIGTERM, spot notices and rebalance recommendations
of a fake metadata service over HTTP. Seconds count from the detection: the signal sent, or the notice handed out to
whoever asked; those since it was there to be seen, up to a poll longer, are reported beside them. The embedder waits
rather than computes, so that a part takes its second however many processes there are. Writes results/notice.json.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import psutil

from pipelines.leases import newest_epochs
from pipelines.store import open_store
from tests.benchmarks.machine import write_results
from tests.e2e.command import environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.imds import REBALANCE, SPOT, FakeImds, fake_imds

SAYS = {"sigterm": "(SIGTERM)", "spot": "(spot notice: terminate at ", "rebalance": "(rebalance recommendation of "}
P99_S, MAX_S = 10.0, 25.0
_ROWS, _PARTS = 64, 40
_GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Exit:
    """How one process ended. ``after_part_s``: from the notice, or from the end of the part in hand where that was
    later, to the exit. ``parts_s``: what each part took that was followed by another."""

    kind: str
    code: int
    detected_s: float
    visible_s: float
    after_part_s: float
    start_s: float
    said_why: bool
    leases_held: int
    workers_left: int
    parts_begun: int
    parts_written: int
    parts_s: tuple[float, ...]


def measure(folder: Path, *, notices: int, at_once: int, part_s: float = 1.0, grace_s: float = 20.0,
            seed: int = 1) -> dict[str, Any]:  # fmt: skip
    """Figures over ``notices`` processes, ``at_once`` of them at a time."""
    write_corpus(folder / "source", objects=1, documents=_ROWS * _PARTS)
    engine = {"workers": 1, "grace_s": grace_s}
    kinds = [list(SAYS)[number % len(SAYS)] for number in range(notices)]
    with ThreadPoolExecutor(at_once) as pool:
        exits = list(pool.map(partial(_one, folder, engine, part_s, seed), range(notices), kinds))
    return {
        "notices": notices,
        "at_once": at_once,
        "seed": seed,
        "grace_s": grace_s,
        "part_s": _spread([seconds for one in exits for seconds in one.parts_s]),
        "start_to_first_part_s": _spread([one.start_s for one in exits]),
        "from_detection_s": _by_kind(exits, "detected_s"),
        "from_the_end_of_the_part_s": _by_kind(exits, "after_part_s"),
        "from_visible_s": _by_kind(exits, "visible_s"),
        "exit_codes": {str(code): count for code, count in sorted(Counter(one.code for one in exits).items())},
        "without_the_reason": sum(not one.said_why for one in exits),
        "leases_held": sum(one.leases_held for one in exits),
        "workers_left": sum(one.workers_left for one in exits),
        "parts_begun": sum(one.parts_begun for one in exits),
        "parts_abandoned": sum(one.parts_begun - one.parts_written for one in exits),
    }


def must_be_clean(figures: dict[str, Any]) -> None:
    """Every process exited resumable, said why, and left neither a lease, a worker nor a part half done behind."""
    assert figures["exit_codes"] == {"75": figures["notices"]}, figures
    assert figures["without_the_reason"] == figures["leases_held"] == figures["workers_left"] == 0, figures
    assert figures["parts_abandoned"] == 0, figures  # a part is well within the grace


def must_be_prompt(figures: dict[str, Any]) -> None:
    of_all = figures["from_detection_s"]["all"]
    assert of_all["p99"] <= P99_S, figures
    assert of_all["max"] <= MAX_S, figures


def _one(folder: Path, engine: dict[str, Any], part_s: float, seed: int, number: int, kind: str) -> Exit:
    root = folder / f"root{number}"
    conf = write_conf(folder / f"run{number}.yaml", root=f"file://{root}", source=f"file://{folder}/source",
                      embed={"rows_per_part": _ROWS}, engine=engine)  # fmt: skip
    command = [sys.executable, "-m", "tests.e2e.slow_embed", str(conf), str(part_s)]
    errors = folder / f"run{number}.err"
    began = time.monotonic()
    with fake_imds() as imds, errors.open("wb") as err:
        process = subprocess.Popen(command, env=environment(imds.environment()),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)  # fmt: skip
        try:
            _wait_for_a_part(root, process, errors)
            start_s = time.monotonic() - began
            time.sleep(random.Random(seed * 1_000_003 + number).uniform(0, 2 * part_s))
            visible_at = time.monotonic()
            _give_notice(kind, process, imds)
            process.wait(_GIVE_UP_S)
            ended = time.monotonic()
        finally:
            process.kill()
            process.wait()
    detected_at = {"sigterm": visible_at, "spot": imds.served_at.get(SPOT, math.inf),
                   "rebalance": imds.served_at.get(REBALANCE, math.inf)}[kind]  # fmt: skip
    written_at = [
        path.stat().st_mtime - time.time() + time.monotonic() for path in root.glob("runs/*/parts/*/*.parquet")
    ]
    marks = [orjson.loads(path.read_bytes()) for path in _marks(root)]
    found = Exit(
        kind=kind,
        code=process.returncode,
        detected_s=ended - detected_at,
        visible_s=ended - visible_at,
        after_part_s=ended - max([detected_at, *written_at]),
        start_s=start_s,
        said_why=SAYS[kind] in errors.read_text(),
        leases_held=_leases_held(root),
        workers_left=sum(psutil.pid_exists(pid) for pid in {mark["pid"] for mark in marks}),
        parts_begun=len(marks),
        parts_written=len(written_at),
        parts_s=tuple(_gaps(mark["at_ms"] / 1000 for mark in marks)),
    )
    shutil.rmtree(root)
    return found


def _give_notice(kind: str, process: subprocess.Popen[bytes], imds: FakeImds) -> None:
    if kind == "sigterm":
        process.terminate()
    elif kind == "spot":
        imds.announce_spot()
    else:
        imds.announce_rebalance()


def _wait_for_a_part(root: Path, process: subprocess.Popen[bytes], errors: Path) -> None:
    deadline = time.monotonic() + _GIVE_UP_S
    while not _marks(root):
        assert process.poll() is None, f"embed ended before its first part: {errors.read_text()}"
        assert time.monotonic() < deadline, "embed began no part"
        time.sleep(0.02)


def _marks(root: Path) -> list[Path]:
    return list(root.glob("runs/*/attempts/embed/*/*/[0-9]*"))


def _leases_held(root: Path) -> int:
    (run,) = (root / "runs").iterdir()
    epochs = list(newest_epochs(open_store(f"file://{root}"), f"runs/{run.name}/leases/embed"))
    assert epochs, "the worker took no lease"
    return sum(epoch.ended is None for _, epoch in epochs)


def _gaps(moments: Iterable[float]) -> list[float]:
    ordered = sorted(moments)
    return [after - before for before, after in pairwise(ordered)]


def _by_kind(exits: Sequence[Exit], field: str) -> dict[str, dict[str, float]]:
    groups = {"all": exits, **{kind: [one for one in exits if one.kind == kind] for kind in SAYS}}
    return {name: _spread([getattr(one, field) for one in group]) for name, group in groups.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Nearest-rank percentiles."""
    if not values:
        return {}
    ordered = sorted(values)
    ranks = {"p50": statistics.median_high(ordered), "p99": ordered[math.ceil(0.99 * len(ordered)) - 1]}
    return {name: round(value, 3) for name, value in {**ranks, "max": ordered[-1]}.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notices", type=int, default=201)
    parser.add_argument("--at-once", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="notice"))
    try:
        figures = measure(folder, notices=arguments.notices, at_once=arguments.at_once, seed=arguments.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('notice', figures)}")
    must_be_clean(figures)
    must_be_prompt(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
