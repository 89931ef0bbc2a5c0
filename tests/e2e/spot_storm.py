"""An array embeds while a share of its hosts is taken away every minute, on the Batch simulator, until it is done.

One command: ``python -m tests.e2e.spot_storm --seed 1``. A simulated minute takes 20 s, and a part takes a second of
this clock. Leases and waits are the defaults, at the simulated minute's pace; two interruptions mark a partition for
on-demand capacity. Exits 1 when a floor was missed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.engines.engine import EngineSettings
from pipelines.attempts import count_attempts
from pipelines.store import open_store
from tests.batch.jobs import Job
from tests.batch.simulator import BatchSimulator
from tests.e2e.command import backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.spot_child import STARTED

MINUTE_S = 20.0
PART_S = 1.0
SHARE_PER_MINUTE = 0.3
MOST_EMBEDDED = 1.35  # parts embedded per part planned
ROWS_PER_PART = 4
_DEADLINE_S = 560.0


@dataclass
class Storm:
    """``embedded`` counts parts begun, ``startup_s`` is the median from a container's start to its first part."""

    seed: int
    children: int
    planned: int = 0
    embedded: int = 0
    hosts_lost: int = 0
    attempts: int = 0
    marked: int = 0
    startup_s: float = 0.0
    seconds: float = 0.0
    ideal_s: float = 0.0
    status: str = ""
    same_digests: bool = False

    @property
    def ratio(self) -> float:
        return self.embedded / self.planned

    @property
    def sound(self) -> bool:
        return (self.status == "SUCCEEDED" and self.same_digests and self.ratio <= MOST_EMBEDDED and self.marked > 0
                and self.hosts_lost > 0)  # fmt: skip


def spot_storm(folder: Path, *, seed: int, children: int = 8, objects: int = 12, parts_each: int = 75,
               minute_s: float = MINUTE_S, part_s: float = PART_S) -> Storm:  # fmt: skip
    """``objects`` partitions of ``parts_each`` parts among so many children, each on a host of its own."""
    result = Storm(seed, children)
    source = write_corpus(folder / "source", objects=objects, documents=parts_each * ROWS_PER_PART, seed=seed)
    pace, usual = minute_s / 60, EngineSettings()
    engine = {"name": "batch_array", "workers": 1, "on_demand_after": 2,
              "lease": {"ttl_s": usual.lease.ttl_s * pace, "max_skew_s": usual.lease.max_skew_s * pace},
              "batch_array": {"idle_s": usual.batch_array.idle_s * pace, "capacity": "spot"}}  # fmt: skip
    conf = _conf(folder, "stormy", source, engine)
    assert backhaul_here("plan", conf).code == 0
    with BatchSimulator(slots=children, minute_s=minute_s, seed=seed) as batch:
        command = [sys.executable, "-m", "tests.e2e.spot_child", str(conf), str(part_s)]
        began = time.monotonic()
        job = batch.submit(command=command, array_size=children, environment=environment(), attempts=10)
        batch.storm(share_per_minute=SHARE_PER_MINUTE)
        batch.run_until_done(_DEADLINE_S)
        result.seconds = round(time.monotonic() - began, 1)
        result.hosts_lost = len(batch.lost_hosts)
        _note(result, job)
    store = open_store(f"file://{folder}/stormy")
    (run,) = (folder / "stormy" / "runs").iterdir()
    result.embedded, distinct = count_attempts(store, run.name)
    result.planned = objects * parts_each
    assert distinct == result.planned, (distinct, result)
    result.ideal_s = round(result.planned * part_s / children, 1)
    result.marked = len([*run.glob("on-demand/embed/*.json")])
    quiet = backhaul_here("embed", _conf(folder, "quiet", source, {"name": "local", "workers": 0}), "--json")
    result.same_digests = quiet.digests == backhaul_here("embed", conf, "--engine", "local", "--json").digests
    return result


def _note(result: Storm, job: Job) -> None:
    result.status, result.attempts = job.status, len(job.attempts)
    texts = [attempt.stderr.read_text() for attempt in job.attempts if attempt.stderr.exists()]
    starts = [float(found) for text in texts for found in re.findall(rf"{STARTED} ([\d.]+)", text)]
    result.startup_s = round(statistics.median(starts), 2) if starts else math.nan


def _conf(folder: Path, name: str, source: Path, engine: dict[str, object]) -> Path:
    return write_conf(folder / f"{name}.yaml", root=f"file://{folder}/{name}", source=f"file://{source}",
                      embed={"rows_per_part": ROWS_PER_PART}, engine=engine,
                      partition={"path": "{doc_type}/{object}.jsonl", "by": ["object"]})  # fmt: skip


def must_be_sound(result: Storm) -> None:
    assert result.status == "SUCCEEDED", result
    assert result.same_digests, result
    assert result.hosts_lost > 0, result
    assert result.ratio <= MOST_EMBEDDED, result
    assert result.marked > 0, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--children", type=int, default=8)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm"))
    try:
        result = spot_storm(folder, seed=arguments.seed, children=arguments.children)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**asdict(result), "ratio": round(result.ratio, 3), "sound": result.sound}, indent=1))
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
