"""Planning a million listed objects: seconds by stage, peak memory, and what an edit of the corpus changes.

``python -m tests.benchmarks.planning`` prints the figures and writes them to results/planning.json. The store is
a stand-in that lists pages of 1,000 keys and makes up JSONL for the samples; nothing else is made up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import SourceChanged
from pipelines.plan.estimate import estimate
from pipelines.plan.listing import Listing, list_source
from pipelines.plan.partitioning import Partitioning, plan_partitions
from pipelines.plan.plan import make_plan, write_plan
from pipelines.plan.settings import PartitionSettings
from pipelines.read.reader import SourceSettings
from pipelines.space import RequestedMaker, Space
from pipelines.store import Object, open_store

RESULTS = Path(__file__).parent / "results" / "planning.json"
OBJECTS = 1_000_000
EDITS = 100
PAGE = 1_000
SOURCE = SourceSettings(uri="s3://corpus/", include=("**/*.jsonl",))
PARTITION = PartitionSettings(path="docs/{doc_type}/{date:%Y-%m}/*", by=("doc_type", "month"))
_TYPES = ("article", "changelog", "faq", "guide", "manual", "notice", "paper", "ticket")
_MONTHS = [f"{year}-{month:02}" for year in range(2020, 2025) for month in range(1, 13)]
_LINE = json.dumps({"id": "x", "title": "A plain title", "text": "some words of a document " * 40}).encode() + b"\n"


@dataclass(frozen=True)
class Edits:
    """Row numbers of the first listing that are deleted, changed, or followed by a new object."""

    inserted: frozenset[int] = frozenset()
    deleted: frozenset[int] = frozenset()
    changed: frozenset[int] = frozenset()


class ListedStore:
    """A Store that lists objects it does not hold. Sizes are log-normal: median 60 KB, mean about 160 KB."""

    uri = "s3://corpus"

    def __init__(self, objects: int, *, seed: int = 7, edits: Edits | None = None) -> None:
        self._objects = objects
        self._seed = seed
        self._edits = edits or Edits()

    def list(self, prefix: str = "") -> Iterator[Object]:
        page: list[Object] = []
        for one in self._edited():
            page.append(one)
            if len(page) == PAGE:
                yield from page
                page = []
        yield from page

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        if not if_match:
            raise SourceChanged(f"{self.uri}/{key} was read without its ETag")
        assert end is not None
        return (_LINE * (end // len(_LINE) + 1))[start:end]

    def _edited(self) -> Iterator[Object]:
        for row, one in enumerate(self._listed()):
            if row in self._edits.changed:
                one = replace(one, etag=one.etag[:-2] + 'x"', size=one.size + 1000)
            if row not in self._edits.deleted:
                yield one
            if row in self._edits.inserted:
                yield replace(one, key=one.key.replace(".jsonl", "-b.jsonl"), etag=one.etag[:-2] + 'y"')

    def _listed(self) -> Iterator[Object]:
        draw = random.Random(self._seed)
        folders = [f"docs/{kind}/{month}" for kind in _TYPES for month in _MONTHS]
        each, more = divmod(self._objects, len(folders))
        for number, folder in enumerate(folders):
            for part in range(each + (number < more)):
                size = 200 + int(draw.lognormvariate(11.0, 1.4))
                etag = f'"{draw.getrandbits(128):032x}"'
                yield Object(f"{folder}/part-{part:06}.jsonl", size, etag, 1_700_000_000_000 + part)


def random_edits(objects: int, count: int, *, seed: int = 11) -> dict[str, Edits]:
    """``count`` insertions, deletions and changes, each alone and all together, at distinct places."""
    rows = random.Random(seed).sample(range(objects), 3 * count)
    inserted, deleted, changed = (frozenset(rows[i * count : (i + 1) * count]) for i in range(3))
    return {
        "inserted": Edits(inserted=inserted),
        "deleted": Edits(deleted=deleted),
        "changed": Edits(changed=changed),
        "all": Edits(inserted, deleted, changed),
    }


def plan(
    objects: int, edits: Edits | None = None, seconds: dict[str, float] | None = None
) -> tuple[Listing, Partitioning]:
    """List, estimate and partition, as the command does. ``seconds`` receives a figure by stage."""
    taken = {} if seconds is None else seconds
    store = ListedStore(objects, edits=edits)
    with _timed(taken, "list"):
        listing = list_source(store, SOURCE)  # type: ignore[arg-type]  # it reads nothing but list and get
    with _timed(taken, "estimate"):
        found = estimate(store, listing, SOURCE, None)  # type: ignore[arg-type]
    with _timed(taken, "partition"):
        partitioning = plan_partitions(listing, PARTITION, SOURCE, found.tokens_per_byte)
    return listing, partitioning


def changed_partitions(before: set[str], after: set[str]) -> dict[str, int]:
    return {"new": len(after - before), "gone": len(before - after)}


def measure(objects: int, edits: int) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    listing, partitioning = plan(objects, None, seconds)
    with _timed(seconds, "digest"):
        digest = listing.digest
    with _timed(seconds, "write"):
        _write(digest, partitioning)
    peak_mb = _peak_mb()
    before = {partition.id for partition in partitioning.partitions}
    targets = sorted(tokens / PARTITION.target_tokens for tokens in partitioning.tokens)
    result = {
        "objects": objects,
        "gigabytes": round(listing.total_bytes / 1e9, 1),
        "partitions": len(before),
        "targets_per_partition": {f"p{q}": round(targets[len(targets) * q // 100], 2) for q in (5, 50, 95)},
        "seconds": {name: round(taken, 2) for name, taken in seconds.items()},
        "seconds_in_all": round(sum(seconds.values()), 2),
        "peak_mb": peak_mb,
        "edits": edits,
    }
    del listing, partitioning
    result["changed_partitions"] = {
        name: changed_partitions(before, {one.id for one in plan(objects, edit)[1].partitions})
        for name, edit in (random_edits(objects, edits).items() if edits else ())
    }
    return result


def _write(digest: str, partitioning: Partitioning) -> None:
    space = Space("0" * 64, "0" * 64, "none", "", "", True, 256, 64)
    maker = RequestedMaker("hash", "fp32", 1, 16_384)
    whole = make_plan(deciding={}, space=space, maker=maker, listing=digest, partitions=partitioning.partitions,
                      estimate={}, notes=partitioning.notes)  # fmt: skip
    write_plan(open_store("memory://planning"), "corpus", whole)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _peak_mb() -> int:
    """The process's own high-water mark; getrusage would count what its parent held before the exec."""
    kilobytes = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) // 1000


def _machine() -> dict[str, Any]:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {"cores": os.cpu_count(), "cpu": model[1] if model else "unknown", "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    parser.add_argument("--edits", type=int, default=EDITS)
    parser.add_argument("--in-process", action="store_true", help="print the figures as JSON and write nothing")
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(measure(arguments.objects, arguments.edits)))
        return
    command = [sys.executable, "-m", "tests.benchmarks.planning", "--in-process",
               "--objects", str(arguments.objects), "--edits", str(arguments.edits)]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=900)
    result = {"machine": _machine(), **json.loads(done.stdout)}
    print(json.dumps(result, indent=2))
    if arguments.objects == OBJECTS:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
