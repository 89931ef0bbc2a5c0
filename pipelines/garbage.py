"""What of a root is reached no more: generations beyond those that are kept, runs, parts that no manifest names.

Looks and decides, and deletes nothing. Where it does not know it keeps: runs that another corpus has as well, everything
while nothing is live, whatever was written to lately.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.checkpoint import part_key
from pipelines.closed import MARK, manifest_key
from pipelines.manifest import read_manifest
from pipelines.pages import Object, hex_cuts
from pipelines.plan.plan import run_of_record
from pipelines.releases import ReleaseLog
from pipelines.retention import HeldRuns, kept_by_releases, released_on
from pipelines.store import Store
from pipelines.targets.target import Generation, IndexTarget

Named = Mapping[
    str, frozenset[str]
]  # parts that manifests name, "<partition>/<file>", by the run whose folder has them
_LATELY = "written to lately (gc.idle_s)"


class GcSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_s: float = Field(
        86_400.0, ge=0, description="what was written to within so many seconds is left alone: somebody may be at it"
    )
    grace_s: float = Field(
        60.0, ge=0, description="seconds between a first and a second look; only what neither reaches is deleted"
    )


@dataclass(frozen=True, slots=True)
class OldGeneration:
    generation: Generation
    why: str


@dataclass(frozen=True, slots=True)
class DeadRun:
    """``number`` None: no corpus knows it. ``objects`` and ``bytes`` are of what goes; ``touched_ms`` is when something
    of it was written last, in ms since 1970."""

    run_id: str
    number: int | None
    completion: Literal["open", "complete", "closed"]
    objects: int
    bytes: int
    touched_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """``parts`` are such as lost against others, of runs that stay. ``half_dropped`` (run id, generation, index uuid) are
    indices that are gone while their records are not. ``kept`` says why of each generation and run that stays."""

    live: str | None
    generations: tuple[OldGeneration, ...]
    runs: tuple[DeadRun, ...]
    parts: tuple[Object, ...]
    half_dropped: tuple[tuple[str, str, str], ...]
    kept: Mapping[str, str]
    named: Named = field(repr=False)  # by manifests of runs that stay

    @property
    def is_empty(self) -> bool:
        return not (self.generations or self.runs or self.parts or self.half_dropped)


def find_garbage(store: Store, target: IndexTarget, log: ReleaseLog, *, keep_releases: int, idle_s: float,
                 now_s: float) -> Garbage:  # fmt: skip
    """What the corpus of ``log`` has that nothing reaches, by one listing of all runs.

    - Generations: kept are those that releases keep (``kept_by_releases``) and those never released whose run was not
      planned before the live one's.
    - Runs: kept are those of kept generations, here and on other targets, those not planned before the live one, and
      those of other corpora. Of the others every object goes but the parts that a manifest of a kept run names.
    - Of a kept run with a manifest the parts that no manifest names go.

    Args:
        idle_s: what was written to within so many seconds before ``now_s`` (seconds since 1970) is kept.

    Raises:
        GateRefused: the manifest of a kept run cannot be read, so that what it names is not known.
    """
    generations, live_name = target.generations(log.corpus), target.live(log.corpus)
    live = next((each for each in generations if each.name == live_name), None)
    runs, (planned, foreign) = _runs(store), _planned(store, log.corpus)
    looked = _Looked(runs, planned, live is not None, planned.get(live.meta.run_id, 0) if live else 0,
                     int((now_s - idle_s) * 1000))  # fmt: skip
    kept, old = _kept_generations(generations, live, log, target.id, keep_releases), list[OldGeneration]()
    released = set(released_on(log, target.id))
    for each in generations:
        stays, why = (True, kept[each.name]) if each.name in kept else looked.generation(each, each.name in released)
        if stays:
            kept[each.name] = why
        else:
            old.append(OldGeneration(each, why))
    held = HeldRuns(log, target.id, [each for each in generations if each.name in kept], keep_releases)
    dead: dict[str, str] = {}
    for run in runs.values():
        stays, why = looked.run(run, foreign.get(run.run_id) or held.why(run.run_id))
        if stays:
            kept[f"run {run.run_id}"] = why
        else:
            dead[run.run_id] = why
    staying = [runs[run_id] for run_id in sorted(runs.keys() - dead.keys())]
    named = _named(store, [run.run_id for run in staying if run.completion == "complete"])
    gone = [_dead(store, runs[run_id], planned.get(run_id), named, why) for run_id, why in sorted(dead.items())]
    there = {(each.name, each.uuid) for each in generations}
    return Garbage(
        live_name,
        tuple(old),
        tuple(run for run in gone if run.objects or run.number is not None),  # else only the mark is left of it
        tuple(part for run in staying for part in _unnamed(store, run, named, looked.since_ms)),
        tuple((run.run_id, *index) for run in staying for index in sorted(run.half_dropped - there)),
        kept,
        named,
    )


def goes(key: str, run_id: str, named: Named) -> bool:
    """Whether an object of a dead run goes: all but the mark that it is closed, and the parts that others name."""
    return key != manifest_key(run_id) and key.removeprefix(f"runs/{run_id}/parts/") not in named.get(run_id, ())


@dataclass(slots=True)
class _Run:
    """One folder under ``runs/``, as its listing has it."""

    run_id: str
    objects: int = 0
    bytes: int = 0
    parts: int = 0
    touched_ms: int = 0  # but for the manifest: to close a run is no work on it
    completion: Literal["open", "complete", "closed"] = "open"
    half_dropped: set[tuple[str, str]] = field(default_factory=set)
    _indices: dict[tuple[str, str], int] = field(default_factory=dict)  # (generation, uuid): when it was touched last

    def add(self, found: Object) -> None:
        self.objects += 1
        self.bytes += found.size
        path = found.key.split("/")[2:]
        if path == ["manifest.json"]:
            self.completion = "closed" if found.size == len(MARK) else "complete"
            return
        self.touched_ms = max(self.touched_ms, found.modified_ms)
        self.parts += path[0] == "parts"
        # loads/<generation>/<uuid>/…, redrive/… and leases/loads/…
        stage, *rest = path[1:] if path[0] == "leases" else path
        if stage in ("loads", "redrive") and len(rest) > 2:
            index = (rest[0], rest[1])
            self._indices[index] = max(self._indices.get(index, 0), found.modified_ms)
            if rest[2] == "dropped":
                self.half_dropped.add(index)

    def touched(self, generation: Generation) -> int:
        return self._indices.get((generation.name, generation.uuid), 0)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What decides of a generation or run that no release keeps. ``planned`` are the newest numbers of the corpus's runs,
    and ``floor`` that of the live one's."""

    runs: Mapping[str, _Run]
    planned: Mapping[str, int]
    is_live: bool
    floor: int
    since_ms: int

    def generation(self, each: Generation, released: bool) -> tuple[bool, str]:
        """Whether it stays, and why or why not."""
        run = self.runs.get(each.meta.run_id)
        if not released and self.planned.get(each.meta.run_id, 0) >= self.floor:
            return True, "never released, and not planned before the live one"
        if run and run.touched(each) >= self.since_ms:
            return True, _LATELY
        return False, "others were live since" if released else "never released, and a later run is live"

    def run(self, run: _Run, held: str) -> tuple[bool, str]:
        """The same of a run; ``held`` is why it is held by something else."""
        number = self.planned.get(run.run_id)
        if run.completion == "closed":
            return False, "closed before"
        if held:
            return True, held
        if number is not None and not self.is_live:
            return True, "nothing is live"
        if number is not None and number >= self.floor:
            return True, "not planned before the live one"
        if run.touched_ms >= self.since_ms:
            return True, _LATELY
        if number is None:
            return False, "no corpus has it: its planning was broken off"
        return False, "no kept generation is of it" if run.completion == "complete" else "never completed, and a later run is live"  # fmt: skip


def _runs(store: Store) -> dict[str, _Run]:
    runs: dict[str, _Run] = {}
    for found in store.list("runs/", cuts=hex_cuts("runs")):
        run_id = found.key.split("/", 2)[1]
        runs.setdefault(run_id, _Run(run_id)).add(found)
    return runs


def _planned(store: Store, corpus: str) -> tuple[dict[str, int], dict[str, str]]:
    """The newest number of each run of the corpus; and the runs that others have, each with the reason to keep it."""
    planned: dict[str, int] = {}
    foreign: dict[str, str] = {}
    for found in store.list("corpora/"):
        _, owner, folder, *rest = found.key.split("/")
        if folder != "runs" or len(rest) != 1:
            continue
        number, run_id = run_of_record(found.key)
        if owner == corpus:
            planned[run_id] = max(planned.get(run_id, 0), number)
        else:
            foreign[run_id] = f"corpus {owner} has it, too"
    return planned, foreign


def _kept_generations(generations: list[Generation], live: Generation | None, log: ReleaseLog, target_id: str,
                      keep_releases: int) -> dict[str, str]:  # fmt: skip
    names = [each.name for each in generations]
    if live is None:
        return dict.fromkeys(names, "nothing is live")
    return kept_by_releases(log, target_id, names, live.name, keep_releases)


def _named(store: Store, run_ids: list[str]) -> Named:
    named: dict[str, set[str]] = {}
    for run_id in run_ids:
        manifest = read_manifest(store, run_id)
        for entry in manifest.entries if manifest else ():
            start = len(f"runs/{entry.run_id}/parts/")
            keys = (part_key(entry.run_id, entry.partition, part.number, part.sha256) for part in entry.parts)
            named.setdefault(entry.run_id, set()).update(key[start:] for key in keys)
    return {run_id: frozenset(parts) for run_id, parts in named.items()}


def _dead(store: Store, run: _Run, number: int | None, named: Named, why: str) -> DeadRun:
    sizes = [run.bytes]
    objects = run.objects - (run.completion != "open")
    if run.run_id in named:
        sizes = [each.size for each in store.list(f"runs/{run.run_id}/") if goes(each.key, run.run_id, named)]
        objects = len(sizes)
    return DeadRun(run.run_id, number, run.completion, objects, sum(sizes), run.touched_ms, why)


def _unnamed(store: Store, run: _Run, named: Named, since_ms: int) -> Iterator[Object]:
    """Parts of a completed run that stays which no manifest names, written before ``since_ms``."""
    mine = named.get(run.run_id, frozenset())
    if run.completion != "complete" or run.parts == len(mine):
        return
    folder = f"runs/{run.run_id}/parts/"
    for found in store.list(folder, cuts=hex_cuts(folder[:-1])):
        if found.key[len(folder) :] not in mine and found.modified_ms < since_ms:
            yield found
