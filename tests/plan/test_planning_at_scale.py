"""A twentieth of the benchmark: the same listing stand-in, the same edits."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.planning import OBJECTS, changed_partitions, plan, random_edits


def test_edits_change_little_more_than_the_partitions_they_fall_in() -> None:
    before = {one.id for one in plan(OBJECTS // 20)[1].partitions}
    edits = random_edits(OBJECTS // 20, 100)["all"]
    changed = changed_partitions(before, {one.id for one in plan(OBJECTS // 20, edits)[1].partitions})
    assert 100 < changed["new"] <= 330
    assert 100 < changed["gone"] <= 330


def test_memory_grows_by_at_most_1300_bytes_per_listed_object() -> None:
    assert _peak_mb(100_000) - _peak_mb(20_000) < 80_000 * 1300 / 1e6


def _peak_mb(objects: int) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.planning", "--in-process", "--edits", "0", "--objects"]
    done = subprocess.run([*command, str(objects)], check=True, stdout=subprocess.PIPE, timeout=120)
    return int(json.loads(done.stdout)["peak_mb"])
