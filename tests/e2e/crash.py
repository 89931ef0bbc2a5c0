"""Kill workers and drivers of a run at seeded random moments, resume each time, and compare with a quiet run.

One command: ``python -m tests.e2e.crash --seed 1 --kills 50 --target lancedb``. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipelines.checkpoint import count_attempts
from pipelines.store import open_store
from tests.e2e.command import COMMAND, backhaul, backhaul_here, environment, worker_processes
from tests.e2e.corpora import write_conf, write_corpus

WORKERS = 2
_JITTER_S = {"embed": 0.03, "load": 0.3}  # a part takes milliseconds here, a loaded partition a tenth of a second
_GIVE_UP_S = 120.0


@dataclass
class Storm:
    """``recomputed`` parts are allowed up to 2 per worker killed; a killed driver counts all its workers."""

    seed: int
    target: str
    parts: int = 0
    kills_of_workers: int = 0
    kills_of_drivers: int = 0
    kills_in_embed: int = 0
    kills_in_load: int = 0
    workers_killed: int = 0
    recomputed: int = 0
    invocations: int = 0
    rows: int = 0
    seconds: float = 0.0
    same_content: bool = False
    same_bytes: bool = False
    exact_rows: bool = False

    @property
    def kills(self) -> int:
        return self.kills_of_workers + self.kills_of_drivers

    @property
    def sound(self) -> bool:
        return self.same_content and self.same_bytes and self.exact_rows and self.recomputed <= 2 * self.workers_killed


def storm(folder: Path, *, seed: int, kills: int, target: str, url: str | None = None, objects: int = 24,
          documents: int = 600, rows_per_part: int = 64) -> Storm:  # fmt: skip
    """Half of the kills fall while parts are embedded, half while they are loaded.

    A moment is drawn as progress (parts begun, or partitions loaded) and then some milliseconds, so that the
    same seed kills about as far into the work on a slow machine as on a fast one.
    """
    began, chance, result = time.monotonic(), random.Random(seed), Storm(seed, target)
    source = write_corpus(folder / "source", objects=objects, documents=documents, words=30, seed=seed)
    root = folder / "stormy"
    conf = _conf(folder, source, root, target, url, rows_per_part)
    parts = objects * math.ceil(documents / rows_per_part)
    step = max(1, 2 * parts // max(1, kills // 2))
    while result.kills < kills // 2 and not any(root.glob("runs/*/manifest.json")):
        budget = kills // 2 - result.kills
        result.kills_in_embed += _kill("embed", conf, root, "attempts/embed/*/*/*", step, budget, chance, result)
    _until_done("embed", conf)
    while result.kills < kills:
        hits = _kill("load", conf, root, "loads/*/*/*.json", 1, kills - result.kills, chance, result)
        result.kills_in_load += hits
        if any(root.glob("runs/*/loads/*/*/finished/*")):  # loaded before the kills were: load it anew
            for row in backhaul_here("list", conf, "--json").json["generations"]:
                assert backhaul_here("drop", conf, "--generation", row["generation"], "--yes").code == 0
            shutil.rmtree(next(root.glob("runs/*/loads")))
    final = _until_done("run", conf)
    quiet = _until_done("run", _conf(folder, source, folder / "quiet", target, url, rows_per_part))
    result.same_content = final["content_digest"] == quiet["content_digest"]
    result.same_bytes = final["bytes_digest"] == quiet["bytes_digest"]
    listed = {row["generation"]: row for row in backhaul_here("list", conf, "--json").json["generations"]}
    # `run` released it, so every row and vector was compared with its part.
    (live,) = (row for row in listed.values() if row["live"])
    result.rows = live["rows"]
    result.exact_rows = (
        live["generation"] == final["generation"] and result.rows == final["rows"] == objects * documents
    )
    begun, distinct = count_attempts(open_store(f"file://{root}"), final["run_id"])
    result.parts, result.recomputed = distinct, begun - distinct
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _kill(verb: str, conf: Path, root: Path, marks: str, step: int, budget: int, chance: random.Random,
          result: Storm) -> int:  # fmt: skip
    """Start the verb and kill its workers, or the driver, at random moments until the driver ends.

    A moment is up to ``step`` more marks and some milliseconds after the last one. Returns the number of kills.
    """
    result.invocations += 1
    driver = subprocess.Popen([*COMMAND, verb, str(conf)], env=environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    for hits in range(budget):
        moment = _count(root, marks) + chance.randint(0, step)
        jitter_s, of_driver = chance.uniform(0, _JITTER_S[verb]), chance.random() < 0.4
        deadline = time.monotonic() + _GIVE_UP_S
        while driver.poll() is None and not (worker_processes(driver.pid) and _count(root, marks) >= moment):
            assert time.monotonic() < deadline, f"{verb} neither worked nor ended"
            time.sleep(0.01)
        time.sleep(jitter_s)
        workers = worker_processes(driver.pid)
        if driver.poll() is not None or not workers:
            driver.wait()
            return hits
        if of_driver:
            driver.kill()
            driver.wait()
            result.kills_of_drivers += 1
            result.workers_killed += len(workers)
            _wait_gone(workers)
            return hits + 1
        chance.choice(workers).send_signal(signal.SIGKILL)
        result.kills_of_workers += 1
        result.workers_killed += 1
    driver.wait(timeout=_GIVE_UP_S)
    return budget


def _wait_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, f"workers outlived their driver: {alive}"


def _count(root: Path, marks: str) -> int:
    return sum(1 for _ in root.glob(f"runs/*/{marks}"))


def _until_done(verb: str, conf: Path) -> dict[str, object]:
    for _ in range(5):
        outcome = backhaul(verb, conf, "--json")
        if outcome.code == 0:
            return outcome.json
    raise AssertionError(outcome.err)


def _conf(folder: Path, source: Path, root: Path, target: str, url: str | None, rows_per_part: int) -> Path:
    index = {"target": target, "url": url} if url else {"target": target}
    return write_conf(folder / f"{root.name}.yaml", root=f"file://{root}", source=f"file://{source}",
                      corpus=f"{root.name}-{folder.name.lower().replace('_', '-')[-20:]}",
                      embed={"rows_per_part": rows_per_part}, index=index, partition={"target_tokens": 4_000},
                      engine={"workers": WORKERS, "max_attempts": 10})  # fmt: skip


def must_be_sound(result: Storm, kills: int) -> None:
    """Nothing lost, nothing altered, and no more computed again than was promised."""
    assert result.kills >= kills, result
    assert result.same_content, result
    assert result.same_bytes, result
    assert result.exact_rows, result
    assert result.recomputed <= 2 * result.workers_killed, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--target", choices=["lancedb", "opensearch"], default="lancedb")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm"))
    try:
        if arguments.target == "opensearch":
            from tests.fixtures.opensearch import running_node

            with running_node() as node:
                result = storm(folder, seed=arguments.seed, kills=arguments.kills, target="opensearch", url=node.url)
        else:
            result = storm(folder, seed=arguments.seed, kills=arguments.kills, target="lancedb")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**asdict(result), "sound": result.sound}, indent=1))
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
