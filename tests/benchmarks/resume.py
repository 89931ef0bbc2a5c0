"""Resuming a run of a million committed partitions: seconds and peak memory until it is known what is pending.

One command: ``python -m tests.benchmarks.resume``. A plan of 1,000,100 partitions in an S3 stand-in over HTTP that
takes 80 ms for each page of a thousand keys, as S3 does, and receipts for all but a hundred. Each round is a fresh
process that does what ``backhaul embed`` does before it starts a worker, once as it is and once with the listing
asked for one page after the other. Writes results/resume.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.plan import open_or_plan
from pipelines.manifest import read_manifest
from pipelines.partition import Partition, Slice, partition_id
from pipelines.plan.plan import Plan, make_plan, write_plan
from pipelines.receipts import embed_receipts
from pipelines.store import Object
from tests.benchmarks.machine import write_results
from tests.e2e.corpora import write_conf
from tests.fixtures.paged_s3 import PagedS3, paged_s3

COMMITTED = 1_000_000
PENDING = 100
LATENCY_MS = 80
ROUNDS = 5
WAYS = ("side by side", "one after the other")


@contextmanager
def committed_run(folder: Path, committed: int, pending: int, latency_ms: int) -> Iterator[tuple[Path, set[str]]]:
    """The run description of an open run on a stand-in, and the ids of its pending partitions."""
    with paged_s3(latency_ms) as server:
        conf = write_conf(folder / "resume.yaml", root=server.root, source="s3://source",
                          storage=server.storage.model_dump(exclude_defaults=True))  # fmt: skip
        plan = _write_plan(conf, committed + pending)
        ids = list(plan.partitions.ids)
        left = set(random.Random(5).sample(ids, pending))
        _announce(server, plan.run_id, [one for one in ids if one not in left])
        yield conf, left


def _write_plan(conf: Path, partitions: int) -> Plan:
    session = Session(load_settings(conf), quiet=True)
    plan = make_plan(deciding=session.deciding, space=session.space, maker=session.maker, listing="0" * 64,
                     partitions=[_partition(number) for number in range(partitions)], estimate={}, notes=())  # fmt: skip
    write_plan(session.store, session.settings.corpus, plan)
    return plan


def _partition(number: int) -> Partition:
    key = (("doc_type", ("article", "faq", "guide", "notice")[number % 4]), ("month", f"2024-{number % 12 + 1:02}"))
    name = f"docs/{key[0][1]}/{key[1][1]}/part-{number:07}.jsonl"
    slices = (Slice(name, f'"{random.Random(number).getrandbits(128):032x}"', 60_000 + number),)
    return Partition(partition_id(key, slices), number, key, slices)


def _announce(server: PagedS3, run_id: str, ids: list[str]) -> None:
    server.announce(f"runs/{run_id}/receipts/embed", (f"{one}.json" for one in ids))


class OneAfterTheOther:
    """A Store that lists as every Store may: without regard to cuts."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def list(self, prefix: str = "", *, cuts: Any = ()) -> Iterator[Object]:
        return self._store.list(prefix)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def resume(conf: Path, way: str) -> dict[str, Any]:
    """What ``backhaul embed`` does before it starts a worker, in this process."""
    began = time.perf_counter()
    session = Session(load_settings(conf), quiet=True)
    if way == WAYS[1]:
        session.store = OneAfterTheOther(session.store)  # type: ignore[assignment]
    plan = open_or_plan(session).plan
    planned = time.perf_counter()
    assert read_manifest(session.store, plan.run_id) is None
    committed = embed_receipts(session.store, plan.run_id).committed()
    listed = time.perf_counter()
    pending = list(plan.partitions.pending(committed))
    ended = time.perf_counter()
    return {
        "partitions": len(plan.partitions),
        "committed": len(committed),
        "pending": [partition.id for partition in pending],
        "seconds": {"plan": planned - began, "receipts": listed - planned, "pending": ended - listed},
        "peak_mb": _peak_mb(),
    }


def resume_afresh(conf: Path, way: str = WAYS[0]) -> dict[str, Any]:
    """``resume`` in a process of its own; ``wall_s`` is from its start to its end."""
    command = [sys.executable, "-m", "tests.benchmarks.resume", "--in-process", str(conf), "--way", way]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"wall_s": time.perf_counter() - began}


def _peak_mb() -> float:
    """The process's own high-water mark; getrusage would count what its parent held before the exec."""
    kilobytes = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) / 1000


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with committed_run(folder, COMMITTED, PENDING, LATENCY_MS) as (conf, left):
        for _ in range(rounds):
            for way in WAYS:
                outcome = resume_afresh(conf, way)
                if set(outcome["pending"]) != left or len(outcome["pending"]) != len(left):
                    raise SystemExit(f"{way}: {len(outcome['pending'])} pending instead of {len(left)}")
                found[way].append(outcome)
                print(f"{way}: {outcome['wall_s']:.1f} s, {outcome['peak_mb']:.0f} MB", file=sys.stderr, flush=True)
    return {
        "partitions": COMMITTED + PENDING,
        "committed": COMMITTED,
        "latency_ms_per_page": LATENCY_MS,
        "rounds": rounds,
        **{way.replace(" ", "_"): _figures(outcomes) for way, outcomes in found.items()},
    }


def _figures(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    stages = outcomes[0]["seconds"]
    return {
        "wall_s": _spread([one["wall_s"] for one in outcomes]),
        "peak_mb": _spread([one["peak_mb"] for one in outcomes]),
        "seconds": {stage: _spread([one["seconds"][stage] for one in outcomes]) for stage in stages},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--in-process", type=Path, metavar="CONF", help="one resumption: print it and write nothing")
    parser.add_argument("--way", choices=WAYS, default=WAYS[0])
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(resume(arguments.in_process, arguments.way)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="resume"))
    try:
        figures = measure(folder, arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    print(f"written to {write_results('resume', figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
