"""Prove a generation against its manifest, one partition at a time in bounded memory. Moves no alias."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from pipelines.digest import FORMAT, canonical_json
from pipelines.document import row_digest
from pipelines.embed.embedder import Vectors
from pipelines.embed.work import PartDone
from pipelines.errors import Interrupted
from pipelines.load import LoadTask, must_read_manifest
from pipelines.manifest import Entry, Manifest, read_rows
from pipelines.partition import Partition
from pipelines.parts import vectors_of
from pipelines.receipts import load_receipts
from pipelines.rejects import read_rejects
from pipelines.space import Space
from pipelines.store import Created, Store, open_store
from pipelines.targets.backends import open_target
from pipelines.targets.target import Generation, IndexTarget, Query, ScannedRows

_EXAMPLES = 3
_TOLERANCE = 1e-3  # largest component-wise difference where the target does not return vectors bit for bit


class VerifySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_recall: float = Field(0.9, ge=0, le=1, description="least recall@k of approximate against exact search")
    recall_k: int = Field(10, ge=1, le=1000, description="k of that recall")
    recall_queries: int = Field(50, ge=1, le=10_000, description="stored vectors sampled as its queries")


@dataclass(frozen=True, slots=True)
class Gate:
    """One proof: what was found, and what the settings ask for. ``detail`` names the first offenders."""

    name: str
    passed: bool
    found: str
    wanted: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """``load`` is the number of the finished load that was proved; a later load makes this one stale."""

    generation: str
    index_uuid: str
    load: int
    passed: bool
    gates: tuple[Gate, ...]
    at_ms: int


class VerifyWork:
    """Compare one partition of the index with its parts: ids, row digests recomputed from the fields that the
    index returns, and vectors' bits. The receipt counts what differs and is not persisted."""

    def __init__(self, task: LoadTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._task = task
        self._store = open_store(task.root, task.storage)
        self._target = open_target(task.index, task.root, task.storage, task.corpus)
        self._entries = {entry.partition: entry for entry in must_read_manifest(self._store, task.run_id).entries}

    def __call__(self, partition: Partition) -> dict[str, Any]:
        dead = dead_letters(self._store, self._task, partition.id)
        expected = self._expected(self._entries[partition.id], dead)
        found = _flatten(self._target.scan(self._task.generation, partition.id))
        problems, examples = compare_rows(expected, found, exact=self._target.exact_vectors)
        return {"partition": partition.id, "problems": dict(problems), "examples": examples, "dead": len(dead)}

    def _expected(self, entry: Entry, dead: set[str]) -> Iterator[Row]:
        for part, table in read_rows(self._store, entry):
            if self.stopping():
                raise Interrupted(f"partition {entry.partition} stopped before part {part.number}")
            vectors = vectors_of(table)
            columns = (table[name].to_pylist() for name in ("number", "id", "row_digest"))
            for i, (number, chunk_id, digest) in enumerate(zip(*columns, strict=True)):
                if chunk_id not in dead:
                    yield Row(number, chunk_id, digest.hex(), vectors[i])
            self.report(PartDone(table.num_rows, part.tokens))


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    id: str
    digest: str
    vector: np.ndarray[Any, np.dtype[np.float32]]


def compare_rows(expected: Iterator[Row], found: Iterator[Row], *, exact: bool) -> tuple[Counter[str], list[str]]:
    """Merge two streams ordered by row number; count missing, strange, altered rows and altered vectors."""
    problems: Counter[str] = Counter()
    examples: list[str] = []

    def problem(kind: str, row: Row) -> None:
        problems[kind] += 1
        if problems[kind] <= _EXAMPLES:
            examples.append(f"{kind}: {row.id} (row {row.number})")

    mine, theirs = next(expected, None), next(found, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine.number < theirs.number):
            assert mine is not None
            problem("missing", mine)
            mine = next(expected, None)
        elif mine is None or theirs.number < mine.number or mine.id != theirs.id:
            problem("strange", theirs)
            theirs = next(found, None)
        else:
            if mine.digest != theirs.digest:
                problem("altered", mine)
            if not _same_vector(mine.vector, theirs.vector, exact):
                problem("vector", mine)
            mine, theirs = next(expected, None), next(found, None)
    return problems, examples


def gates_of_rows(manifest: Manifest, outcomes: Sequence[Mapping[str, Any]], stored: Mapping[str, int]) -> list[Gate]:
    """Ids, content and vectors, from every partition's receipt and the index's own partition counts."""
    problems: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for outcome in outcomes:
        problems.update(outcome["problems"])
        for line in outcome["examples"]:
            examples.setdefault(line.partition(":")[0], []).append(f"{line} in partition {outcome['partition']}")
    known = {entry.partition for entry in manifest.entries}
    strangers = {name: rows for name, rows in stored.items() if name not in known}
    problems["strange"] += sum(strangers.values())
    dead = sum(outcome["dead"] for outcome in outcomes)
    wrong_ids = problems["missing"] + problems["strange"]
    detail = "; ".join([*examples.get("missing", [])[:_EXAMPLES], *examples.get("strange", [])[:_EXAMPLES],
                        *(f"unknown partition {name!r} with {rows} rows" for name, rows in sorted(strangers.items())[:_EXAMPLES])])  # fmt: skip
    return [
        Gate("ids", wrong_ids == 0, f"{problems['missing']} missing, {problems['strange']} strange",
             f"exactly {manifest.rows - dead} rows", detail),
        Gate("content", problems["altered"] == 0, f"{problems['altered']} rows altered", "0",
             "; ".join(examples.get("altered", [])[:_EXAMPLES])),
        Gate("vectors", problems["vector"] == 0, f"{problems['vector']} vectors altered", "0",
             "; ".join(examples.get("vector", [])[:_EXAMPLES])),
    ]  # fmt: skip


def gate_of_dead_letters(outcomes: Sequence[Mapping[str, Any]], limit: int) -> Gate:
    """Rows that the index refused are not expected in it, so the other gates pass without them."""
    dead = sum(outcome["dead"] for outcome in outcomes)
    return Gate("dead letters", dead <= limit, f"{dead} rows refused by the index", f"at most {limit}")


def gate_of_space(manifest: Manifest, generation: Generation) -> Gate:
    difference = Space(**manifest.space).difference(Space(**generation.meta.space))
    return Gate("space", not difference, "differs" if difference else "equal", "equal", "; ".join(difference))


def gate_of_recall(target: IndexTarget, generation: str, sample: Vectors, settings: VerifySettings) -> Gate:
    """recall@k of approximate against exact search, both by the index, on stored vectors as queries."""
    if len(sample) == 0:
        return Gate("recall", True, "no rows to search", f">= {settings.min_recall}")
    k = settings.recall_k
    exact = target.search(generation, [Query(vector=vector, exact=True, k=k) for vector in sample])
    near = target.search(generation, [Query(vector=vector, k=k) for vector in sample])
    shares = []
    for truth, answer in zip(exact, near, strict=True):
        # Ties at the k-th score may go either way: an approximate hit as good as the k-th exact one is right.
        floor = truth[-1].score - 1e-6 if truth else 0.0
        right = sum(1 for hit in answer if hit.score >= floor or hit.id in {t.id for t in truth})
        shares.append(min(1.0, right / len(truth)) if truth else 1.0)
    recall = float(np.mean(shares))
    return Gate("recall", recall >= settings.min_recall, f"recall@{k} {recall:.4f} on {len(sample)} vectors",
                f">= {settings.min_recall}")  # fmt: skip


def sample_vectors(store: Store, manifest: Manifest, count: int) -> Vectors:
    """float32[<= count, dimensions]: rows at even steps through the manifest, reading at most ``count`` parts."""
    wanted = np.unique(np.linspace(0, max(0, manifest.rows - 1), min(count, manifest.rows)).astype(np.int64))
    taken, first = [], 0
    for entry in manifest.entries:
        if not np.any((wanted >= first) & (wanted < first + entry.rows)):
            first += entry.rows
            continue
        for _, table in read_rows(store, entry):
            here = wanted[(wanted >= first) & (wanted < first + table.num_rows)] - first
            taken.append(vectors_of(table)[here])
            first += table.num_rows
    return np.concatenate(taken) if taken else np.zeros((0, 1), dtype=np.float32)


def dead_letters(store: Store, task: LoadTask, partition_id: str) -> set[str]:
    """Chunk ids that the load of this partition gave up."""
    receipt = load_receipts(store, task.run_id, task.generation, task.index_uuid).find(partition_id)
    if receipt is None or not receipt["rejects"]["file"]:
        return set()
    return {reject.position for reject in read_rejects(store, task.run_id, receipt["rejects"]["file"])}


def record_verification(store: Store, corpus: str, verification: Verification) -> None:
    """Append the numbered record; another verifier's number is never overwritten."""
    folder = _folder(corpus, verification.generation, verification.index_uuid)
    number = len(list(store.list(folder)))
    while True:
        number += 1
        data = canonical_json({"format": FORMAT, **asdict(verification)})
        if store.create(f"{folder}{number:08d}.json", data) is Created.WON:
            return


def newest_verification(store: Store, corpus: str, generation: Generation) -> Verification | None:
    keys = sorted(found.key for found in store.list(_folder(corpus, generation.name, generation.uuid)))
    if not keys:
        return None
    value = orjson.loads(store.get(keys[-1]))
    del value["format"]
    value["gates"] = tuple(Gate(**gate) for gate in value["gates"])
    return Verification(**value)


def make_verification(generation: Generation, load: int, gates: Sequence[Gate]) -> Verification:
    return Verification(generation.name, generation.uuid, load, all(gate.passed for gate in gates), tuple(gates),
                        int(time.time() * 1000))  # fmt: skip


def _folder(corpus: str, generation: str, index_uuid: str) -> str:
    return f"corpora/{corpus}/verifications/{generation}/{index_uuid}/"


def _same_vector(mine: Any, theirs: Any, exact: bool) -> bool:  # Any: float32 rows
    if mine.shape != theirs.shape:
        return False
    return mine.tobytes() == theirs.tobytes() if exact else bool(np.abs(mine - theirs).max() <= _TOLERANCE)


def _flatten(pages: Iterator[ScannedRows]) -> Iterator[Row]:
    for page in pages:
        for row, vector in zip(page.rows, page.vectors, strict=True):
            yield Row(row["number"], row["id"], row_digest(row), np.asarray(vector, dtype=np.float32))
