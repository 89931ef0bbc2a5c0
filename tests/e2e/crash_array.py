"""Kill children of an array at seeded random moments, by the Batch simulator, and compare with a quiet run.

One command: ``python -m tests.e2e.crash_array --seed 1 --kills 60``. Exits 1 on any difference. A child is killed with
its host: the process that drives it and its worker, without notice; Batch's retry rules start it again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.batch.simulator import BatchSimulator
from tests.e2e.command import backhaul, environment
from tests.e2e.corpora import write_corpus
from tests.e2e.crash import Storm, compare, conf_of

_ATTEMPTS = 10  # as Batch allows
_JITTER_S = 0.05
_TICK_S = 0.02
_DEADLINE_S = 550.0


def array_storm(folder: Path, *, seed: int, kills: int, children: int = 16, slots: int = 3, workers: int = 1, part_s: float = 0.3, objects: int = 24,
                documents: int = 600, rows_per_part: int = 64) -> Storm:  # fmt: skip
    """A moment is drawn as parts begun, and then some milliseconds. A part takes ``part_s``, so that children do not
    end before they are killed."""
    began, chance, result = time.monotonic(), random.Random(seed), Storm(seed, "batch_array", "lancedb")
    assert kills <= children * (_ATTEMPTS - 2), "a child has only so many attempts"
    source = write_corpus(folder / "source", objects=objects, documents=documents, words=30, seed=seed)
    root = folder / "stormy"
    engine = {"name": "batch_array", "workers": workers, "max_attempts": 10, "lease": {"ttl_s": 6, "max_skew_s": 0},
              "batch_array": {"idle_s": 8}}  # fmt: skip
    conf = conf_of(folder, source, root, "lancedb", None, rows_per_part, engine)
    assert backhaul("plan", conf).code == 0
    step = max(1, objects * math.ceil(documents / rows_per_part) // (2 * kills))
    with BatchSimulator(slots=slots, seed=seed) as batch:
        job = batch.submit(command=[sys.executable, "-m", "tests.e2e.slow_embed", str(conf), str(part_s)], array_size=children, environment=environment(),
                           attempts=_ATTEMPTS)  # fmt: skip
        while result.kills < kills and not job.ended:
            moment, jitter_s = _begun(root) + chance.randint(0, step), chance.uniform(0, _JITTER_S)
            deadline = time.monotonic() + _DEADLINE_S
            while not job.ended and _begun(root) < moment:
                assert time.monotonic() < deadline, "the children neither worked nor ended"
                for _ in range(5):
                    batch.step()
                    time.sleep(_TICK_S)
            time.sleep(jitter_s)
            if victims := [child for child in batch.running if len(child.attempts) < _ATTEMPTS - 1]:
                batch.reclaim(chance.choice(victims))
                result.kills_of_drivers += 1
                result.workers_killed += 1
            batch.step()
        batch.run_until_done(_DEADLINE_S)
        assert job.status == "SUCCEEDED", [child.describe() for child in job.children if child.status != "SUCCEEDED"]
        result.invocations = sum(len(child.attempts) for child in job.children)
    result.kills_in_embed = result.kills
    local = conf_of(folder, source, root, "lancedb", None, rows_per_part, {"name": "local", "workers": 2})
    compare(result, folder, local, source, expected_rows=objects * documents, rows_per_part=rows_per_part,
            released=workers > 0)  # fmt: skip
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _begun(root: Path) -> int:
    return sum(1 for _ in root.glob("runs/*/attempts/embed/*/*/*"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=60)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm"))
    try:
        result = array_storm(folder, seed=arguments.seed, kills=arguments.kills)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**asdict(result), "sound": result.sound}, indent=1))
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
