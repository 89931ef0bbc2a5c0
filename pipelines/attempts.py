"""What the marks of attempts tell: parts begun, parts begun again, and the work that was lost by it. Knows keys and
times of objects, not what is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from pipelines.pages import hex_cuts
from pipelines.store import Store

_MEASURED = 200  # partitions whose parts are timed; parts of a run are alike
_THREADS = 16
Part = tuple[str, int]
"""Partition id and part number."""


@dataclass(frozen=True, slots=True)
class Begun:
    """``again`` says of each part that was begun more than once, how often beyond the first time."""

    total: int
    again: Mapping[Part, int]

    @property
    def recomputed(self) -> int:
        return sum(self.again.values())


def parts_begun(store: Store, run_id: str) -> Begun:
    total, again = 0, defaultdict[Part, int](int)
    seen: dict[str, int] = {}  # part numbers as bits: small enough for a million partitions
    folder = f"runs/{run_id}/attempts/embed"
    for found in store.list(f"{folder}/", cuts=hex_cuts(folder)):
        partition_id, number = _part(found.key)
        total, bit = total + 1, 1 << number
        if seen.get(partition_id, 0) & bit:
            again[partition_id, number] += 1
        seen[partition_id] = seen.get(partition_id, 0) | bit
    return Begun(total, again)


def count_attempts(store: Store, run_id: str) -> tuple[int, int]:
    """(parts begun, distinct parts): the difference is what was computed more than once."""
    begun = parts_begun(store, run_id)
    return begun.total, begun.total - begun.recomputed


def seconds_lost(store: Store, run_id: str, begun: Begun) -> float | None:
    """At most so many seconds of a worker's time were spent on parts that were begun again: for every time a part was
    begun again, what it took in the end, from its mark to its bytes by the store's own clock.

    An upper bound, since an attempt that broke off within a part lost less than all of it. Reading and splitting again
    up to that part are not in it, nor a part in hand that nobody has begun again yet. A part that never was finished
    counts as the others did on average. None: nothing was finished that could be timed.
    """
    if not begun.again:
        return 0.0
    chosen = sorted({partition_id for partition_id, _ in begun.again})[:_MEASURED]
    with ThreadPoolExecutor(_THREADS) as pool:
        measured = dict(zip(chosen, pool.map(lambda one: _part_seconds(store, run_id, one), chosen), strict=True))
    known = [seconds for parts in measured.values() for seconds in parts.values()]
    if not known:
        return None
    mean = fmean(known)
    return sum(times * measured.get(partition_id, {}).get(number, mean)
               for (partition_id, number), times in begun.again.items())  # fmt: skip


def _part_seconds(store: Store, run_id: str, partition_id: str) -> dict[int, float]:
    """By part number: seconds from the last mark before a part to the part."""
    marks: dict[int, list[int]] = defaultdict(list)
    for found in store.list(f"runs/{run_id}/attempts/embed/{partition_id}/"):
        marks[_part(found.key)[1]].append(found.modified_ms)
    taken = {}
    for found in store.list(f"runs/{run_id}/parts/{partition_id}/"):
        number = int(found.key.rpartition("/")[2].partition("-")[0])
        if number in marks:
            taken[number] = _since_last(marks[number], found.modified_ms) / 1000
    return taken


def _since_last(times: Sequence[int], now: int) -> int:
    return now - max((time for time in times if time <= now), default=now)


def _part(key: str) -> Part:
    segments = key.split("/")
    return segments[4], int(segments[6])
