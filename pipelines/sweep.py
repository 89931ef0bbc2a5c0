"""Delete what two looks found unreached. Decides nothing by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from pipelines.closed import close_completed_run, close_run
from pipelines.drop import drop_index, forget_index
from pipelines.garbage import DeadRun, Garbage, goes
from pipelines.plan.plan import run_of_record
from pipelines.store import Store
from pipelines.targets.target import IndexTarget


@dataclass(frozen=True, slots=True)
class Swept:
    generations: tuple[str, ...]
    runs: tuple[str, ...]
    objects: int


def close_abandoned(store: Store, garbage: Garbage) -> None:
    """Before the grace period: from here on nobody completes them. One that was completed meanwhile stays as it is."""
    for run in garbage.runs:
        if run.completion == "open":
            close_run(store, run.run_id)


def in_both(first: Garbage, second: Garbage) -> Garbage:
    """What nothing reached at either look and nobody wrote to in between."""
    generations = {(old.generation.name, old.generation.uuid) for old in first.generations}
    runs = {(run.run_id, run.touched_ms) for run in first.runs}
    parts = {part.key for part in first.parts}
    return replace(
        second,
        generations=tuple(o for o in second.generations if (o.generation.name, o.generation.uuid) in generations),
        runs=tuple(run for run in second.runs if (run.run_id, run.touched_ms) in runs),
        parts=tuple(part for part in second.parts if part.key in parts),
        half_dropped=tuple(each for each in second.half_dropped if each in first.half_dropped),
    )


def sweep(store: Store, target: IndexTarget, corpus: str, garbage: Garbage, say: Callable[[str], None]) -> Swept:
    """Killed at any moment, the next one goes on: an index is marked before it is dropped, and a run is closed and
    forgotten by its corpus before its objects go.

    Raises:
        TargetError: a generation went live meanwhile.
    """
    for old in garbage.generations:
        drop_index(store, target, corpus, old.generation)
        say(f"gc: dropped generation {old.generation.name}")
    for index in garbage.half_dropped:
        forget_index(store, corpus, *index)
    records = [found.key for found in store.list(f"corpora/{corpus}/runs/")]
    objects = 0
    for run in garbage.runs:
        objects += _sweep_run(store, run, [key for key in records if run_of_record(key)[1] == run.run_id], garbage)
        say(f"gc: swept run {run.run_id[:12]}, {run.objects:,} objects")
    store.delete([part.key for part in garbage.parts])
    return Swept(tuple(old.generation.name for old in garbage.generations), tuple(run.run_id for run in garbage.runs),
                 objects + len(garbage.parts))  # fmt: skip


def _sweep_run(store: Store, run: DeadRun, records: Iterable[str], garbage: Garbage) -> int:
    if run.completion == "complete":
        close_completed_run(store, run.run_id)
    store.delete(records)
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for found in store.list(f"runs/{run.run_id}/"):
            if goes(found.key, run.run_id, garbage.named):
                count += 1
                yield found.key

    store.delete(counted())
    return count
