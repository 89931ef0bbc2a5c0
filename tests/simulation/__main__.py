"""`python -m tests.simulation --seed N [--trace]` replays a schedule; `--schedules N` runs many, by processes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.simulation import Outcome, run_schedule

_CHUNK = 500


def run_many(seeds: range) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Seeds whose schedule broke an invariant, with what was seen; and how often what happened in all of them."""
    broken: list[tuple[int, str]] = []
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcome: Outcome = run_schedule(seed)
        except Exception as error:
            broken.append((seed, f"crashed: {error!r}"))
            continue
        counts += outcome.counts
        counts["schedules"] += 1
        if outcome.violation:
            broken.append((seed, str(outcome.violation)))
    return broken, counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this schedule alone")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in it")
    parser.add_argument("--schedules", type=int, default=5000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        outcome = run_schedule(arguments.seed, print if arguments.trace else None)
        print(outcome.violation or f"seed {outcome.seed}: every invariant holds, {dict(outcome.counts)}")
        return 1 if outcome.violation else 0
    began, end = time.monotonic(), arguments.first + arguments.schedules
    chunks = [range(first, min(first + _CHUNK, end)) for first in range(arguments.first, end, _CHUNK)]
    broken: list[tuple[int, str]] = []
    counts: Counter[str] = Counter()
    with ProcessPoolExecutor(arguments.processes) as pool:
        for some, counted in pool.map(run_many, chunks):
            counts += counted
            for seed, seen in some:
                print(f"seed {seed}: {seen}\n  python -m tests.simulation --seed {seed} --trace")
            broken += some
    seconds = time.monotonic() - began
    print(f"{arguments.schedules} schedules in {seconds:.0f} s, {len(broken)} broken: {dict(counts.most_common())}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
