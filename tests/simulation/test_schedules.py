"""Thousands of worlds, each from its seed: the protocol keeps its promises in all of them, and they are not tame."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.__main__ import run_many
from tests.simulation.simulation import run_schedule

SCHEDULES = 5000
SOAK_SHARDS, SOAK_SHARD = 4, 25_000
HAPPENS = (
    "unavailable",
    "lost request",
    "lost answer",
    "slow answer",
    "conflict",
    "echo",
    "late writes",
    "kills",
    "freezes",
    "cuts",
    "stops",
    "restarts",
    "poisoned",
    "given up",
    "cleared",
    "vanished",
)


def _run(seeds: range) -> Counter[str]:
    broken, counts = run_many(seeds)
    assert not broken, "\n".join(f"{seen}: python -m tests.simulation --seed {seed} --trace" for seed, seen in broken)
    return counts


def test_no_schedule_breaks_an_invariant_and_everything_happens() -> None:
    counts = _run(range(SCHEDULES))
    assert counts["schedules"] == SCHEDULES
    rare = {what: counts[what] for what in HAPPENS if counts[what] < SCHEDULES // 100}
    assert not rare, "these worlds are too tame to prove anything"


@pytest.mark.soak
@pytest.mark.parametrize("shard", range(SOAK_SHARDS))
def test_no_schedule_of_many_breaks_an_invariant(shard: int) -> None:
    """With the schedules of the fast test, whose seeds come before these, more than a hundred thousand."""
    first = SCHEDULES + shard * SOAK_SHARD
    command = [sys.executable, "-m", "tests.simulation", "--schedules", str(SOAK_SHARD), "--first", str(first)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_seed_gives_the_same_schedule_in_every_process() -> None:
    lines: list[str] = []
    run_schedule(36, lines.append)
    run = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "36", "--trace"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    trace, _, verdict = run.stdout.rstrip("\n").rpartition("\n")
    assert trace == "\n".join(lines)
    assert "every invariant holds" in verdict
